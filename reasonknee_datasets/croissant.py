"""Croissant metadata of a prepared repository: files, columns and responsible-AI fields, as JSON-LD.

`croissant.json` follows from the manifest and the schema, as the dataset card does. Paths are relative to it, so that
``mlcroissant`` reads the rows of a local copy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from reasonknee_datasets.manifest import FOLDERS, Manifest
from reasonknee_datasets.schema import CONFIGS, IMAGE, PREVIEW, Column

CROISSANT = "croissant.json"
_RELEASE = "https://huggingface.co/datasets/rajpurkarlab/3DReasonKnee"
_LICENCES = {True: "https://www.apache.org/licenses/LICENSE-2.0", False: "https://creativecommons.org/licenses/by/4.0/"}
_MEANINGS = {
    "quintuples": "One row a question: a volume, a question, a 3D box, reasoning steps and severity grades.",
    "volumes": "One row a volume: provenance, grid, size and hashes.",
    "balanced": "The official balanced selections, as ids with multiplicity.",
    "preview": "One row a volume, with a picture of its slices.",
}
# The context of Croissant 1.0.
_CONTEXT: Mapping[str, Any] = {
    **{"@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/"},
    **{"cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/"},
    **{"dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo"},
    **{name: f"cr:{name}" for name in ("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty")},
    **{name: f"cr:{name}" for name in ("fileObject", "fileSet", "format", "includes", "isLiveDataset", "jsonPath")},
    **{name: f"cr:{name}" for name in ("key", "md5", "parentField", "path", "recordSet", "references", "regex")},
    **{name: f"cr:{name}" for name in ("repeated", "replace", "samplingRate", "separator", "source", "subField")},
    "transform": "cr:transform",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
# The statements of the dataset card under "Where it comes from" and "Limits".
_RESPONSIBLE_AI: Mapping[str, str | list[str]] = {
    "rai:dataCollection": "Sagittal 3D DESS MRI of the Osteoarthritis Initiative (OAI) at 0, 12, 24 and 48 months; "
    "grades from OAI's semi-quantitative MOAKS readings.",
    "rai:dataCollectionType": ["Secondary Data analysis", "Manual Human Curator"],
    "rai:dataCollectionMissingData": "A grade that was missing or illegal is null. In the released records a grade "
    "of 0 may also mean that no reading was made.",
    "rai:dataPreprocessingProtocol": "Volumes are not resampled. Boxes were computed from segmentation masks and "
    "converted to half-open voxel boxes in the array order of the stored volume.",
    "rai:dataAnnotationProtocol": "Clinicians wrote the reasoning once for each question and combination of grades. "
    "Grades are readings by OAI's readers on the MOAKS scales.",
    "rai:machineAnnotationTools": ["nnU-Net, for most of the segmentation masks from which boxes were computed"],
    "rai:dataBiases": [
        "One cohort, one sequence, 3 tesla scanners, ages 45 to 79 at the start.",
        "Grade 0 dominates: answering 0 to everything is right for about 72 % of cartilage sizes.",
    ],
    "rai:dataLimitations": [
        "Boxes are anatomical regions, not lesions.",
        "All knees with the same grades share one reasoning text, which gives the answer away.",
        "Readers disagree, and several readings of one knee can differ.",
        "Most masks are predicted, and the boxes inherit their errors.",
    ],
    "rai:dataUseCases": ["Research on grounded diagnostic reasoning in 3D knee MRI. Not for clinical use."],
    "rai:dataSocialImpact": "A model trained on these data may not guide the care of a patient without the "
    "validation and approval that this needs.",
    "rai:personalSensitiveInformation": [
        "Health data of de-identified participants, with OAI's participant numbers. Images are under the data use "
        "terms of the NIMH Data Archive. No attempt may be made to identify a participant."
    ],
    "rai:dataReleaseMaintenancePlan": f"Annotations are maintained at {_RELEASE}; this repository is prepared from one "
    "revision of them.",
}
_SYNTHETIC_AI: Mapping[str, str | list[str]] = {
    "rai:dataCollection": "SYNTHETIC: volumes, grades and texts were made by a program.",
    "rai:dataCollectionType": ["Synthetic Data"],
    "rai:dataUseCases": ["Trying and testing software. No result on these data says anything about knees."],
    "rai:dataLimitations": ["No patient, no finding and no grade is real."],
    "rai:personalSensitiveInformation": ["None: patients exist nowhere."],
}


def write_metadata(manifest: Manifest) -> str:
    """Write the Croissant metadata of one prepared repository.

    Returns
    -------
    str
        JSON-LD of the format Croissant 1.0 with its extension for responsible AI.
    """
    configs = [config for config in CONFIGS if manifest.configs.get(config)]
    synthetic = manifest.synthetic
    tree = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": "3DReasonKnee_SYNTHETIC" if synthetic else "3DReasonKnee",
        "description": ("SYNTHETIC: drawn by the phantom of reasonknee_datasets. " if synthetic else "")
        + "Knee MRI volumes and, for each, diagnostic questions with a 3D box, the clinicians' reasoning steps and "
        "MOAKS severity grades.",
        "license": _LICENCES[synthetic],
        "url": "https://pypi.org/project/reasonknee-datasets/" if synthetic else _RELEASE,
        "version": str(manifest.versions.get("reasonknee_datasets", "0")),
        "citeAs": "Sambara et al. 3DReasonKnee: Advancing Grounded Reasoning in Medical Vision Language Models. "
        "arXiv:2510.20967, 2025.",
        "keywords": ["knee", "MRI", "osteoarthritis", "MOAKS", "visual question answering"],
        "isLiveDataset": False,
        **(_SYNTHETIC_AI if synthetic else _RESPONSIBLE_AI),
        "distribution": [*map(_file_set, configs), *_volumes(manifest)],
        "recordSet": [_record_set(config, manifest) for config in configs],
    }
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"


def _file_set(config: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{config}-files",
        "name": f"{config}-files",
        "description": f"Parquet files of the config {config}.",
        "encodingFormat": "application/x-parquet",
        "includes": f"{FOLDERS[config]}/*.parquet",
    }


def _volumes(manifest: Manifest) -> list[dict[str, Any]]:
    if (manifest.source.get("options") or {}).get("volumes") == "none":
        return []
    return [
        {
            "@type": "cr:FileSet",
            "@id": "volume-files",
            "name": "volume-files",
            "description": "NIfTI volumes, named by the column volume_path. They may be kept in another place.",
            "encodingFormat": "application/gzip",
            "includes": "volumes/*/*.nii.gz",
        }
    ]


def _record_set(config: str, manifest: Manifest) -> dict[str, Any]:
    columns = (*CONFIGS[config], *((PREVIEW,) if config == "quintuples" and manifest.has_previews else ()))
    split = {
        "@type": "cr:Field",
        "@id": f"{config}/split",
        "name": "split",
        "description": "train, validation or test",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": f"{config}-files"},
            "extract": {"fileProperty": "filename"},
            "transform": {"regex": r"^(train|validation|test)-.*\.parquet$"},
        },
    }
    return {
        "@type": "cr:RecordSet",
        "@id": config,
        "name": config,
        "description": _MEANINGS[config],
        "key": {"@id": f"{config}/id"},
        "field": [split, *(_field(config, column) for column in columns)],
    }


def _field(config: str, column: Column) -> dict[str, Any]:
    """Describe one column; a list of structs has a sub-field for each member."""
    kind, path = column.type, f"{config}/{column.name}"
    field: dict[str, Any] = {"@type": "cr:Field", "@id": path, "name": column.name, "description": column.meaning}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        field["repeated"], kind = True, kind.value_type
    if pa.types.is_struct(kind) and kind != IMAGE:
        members = (kind.field(number) for number in range(kind.num_fields))
        field["subField"] = [
            {
                "@type": "cr:Field",
                "@id": f"{path}/{member.name}",
                "name": member.name,
                "dataType": _data_type(member.type),
                "source": _source(config, column.name, member.name),
            }
            for member in members
        ]
        return field
    member = "bytes" if kind == IMAGE else ""
    return {**field, "dataType": _data_type(kind), "source": _source(config, column.name, member)}


def _source(config: str, column: str, member: str) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": f"{config}-files"}, "extract": {"column": column}}
    return {**source, "transform": {"jsonPath": member}} if member else source


def _data_type(kind: pa.DataType) -> str:
    if kind == IMAGE:
        return "sc:ImageObject"
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
