"""What a transform is, and how an example carries voxels that nobody has read yet.

**A transform is a value.** It is frozen, its repr rebuilds it, it pickles and hashes small and the same in every process
(``datasets`` names cached files by that hash). Calling it with an example gives a new example and leaves the old one
alone. An example may be a dict, the lazy row of ``Dataset.map``, or a batch (a dict of lists: ``with_transform``,
``map(batched=True)``); each transform says only which keys change for one example (`Transform.change`), and this module
does the rest. Of a lazy row a copy is taken and keys are set, so that columns that stay the same are never decoded.

**Where the voxels are.** ``volume`` is always a nibabel image on the example's *current* grid, and ``box`` always lies in
that grid. `CropToBox`, `ToCanonical`, `RandomFlip`, `RandomShift`, `Resize` and `Resample` read nothing: each lays a
`View` over the volume, a few numbers that say for every axis of the new grid where it runs in the stored array. Views
compose to one, so that any chain of them costs one region read and at most one interpolation, done when somebody looks:
``np.asarray(example["volume"])``, a `Window`, a `ToFrames` or the collator. A volume in a dataset's column is a string,
and so is a viewed one (its reference with the view behind it): mapped over a dataset these transforms write numbers and
no voxels, and the row that is read back later is the example that was written.

=================  =====================================================================================
key                meaning
=================  =====================================================================================
``volume``         lazy nibabel image on the current grid; ``volume.view`` leads back to the stored one
``box``            six whole numbers in the current grid; never cut, so it may reach beyond a small crop
``region``         six whole numbers: the stored volume's voxels that the grid covers, padding included
``box_volume``     six whole numbers: the box as it was in the stored volume, exact for ever
``mirrored``       whether anatomy was mirrored (`RandomFlip`)
``voxels``         array on the current grid, once values were changed (`Window`, `RandomIntensity`)
``frames`` ...     see `ToFrames`
=================  =====================================================================================

`Window` is the border between the two: it reads the region and gives ``voxels``. Grid transforms after it move
``voxels`` too; what then comes in from outside is padding, since values beyond the array are gone. With ``per="crop"``
a window looks at the region alone, with ``per="volume"`` at the whole stored volume, whose statistics are kept. Without
a window, the collator reads stored numbers, and the GPU may do the rest.

**Two maps in one view.** Re-indexing (`CropToBox`, `ToCanonical`) keeps every voxel at its place in the world. Moving
anatomy (`RandomFlip`, `RandomShift`) keeps the grid where it is and moves the patient in it. So a view holds where its
voxels are read from and where its grid lies, and the two part only once anatomy was moved.

**Randomness** is drawn from the transform's seed, the example's ``epoch`` (a key that a loader sets; 0 without it) and
its ``id``, and from nothing else: not from workers, order, batches or what was drawn before.
"""
