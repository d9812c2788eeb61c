"""Frozen transforms of examples: crop, turn, window, augment, make frames; nothing is read before it is needed."""

from __future__ import annotations

from reasonknee_datasets.transforms.augment import RandomFlip, RandomShift
from reasonknee_datasets.transforms.base import Compose, Transform, TransformError
from reasonknee_datasets.transforms.conversation import ToConversation
from reasonknee_datasets.transforms.crop import CropToBox, Resample, Resize, ToCanonical
from reasonknee_datasets.transforms.frames import FRAME_RECIPES, ToFrames
from reasonknee_datasets.transforms.intensity import RandomIntensity, Window
from reasonknee_datasets.transforms.regrid import read_voxels
from reasonknee_datasets.transforms.templates import TEMPLATES, Template, Vision
from reasonknee_datasets.transforms.tokenize_reasoning import TokenizeReasoning

__all__ = [
    "FRAME_RECIPES",
    "TEMPLATES",
    "Compose",
    "CropToBox",
    "RandomFlip",
    "RandomIntensity",
    "RandomShift",
    "Resample",
    "Resize",
    "Template",
    "ToCanonical",
    "ToConversation",
    "ToFrames",
    "TokenizeReasoning",
    "Transform",
    "TransformError",
    "Vision",
    "Window",
    "read_voxels",
]
