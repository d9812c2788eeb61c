"""ReasonKnee-Bench: conditions and prompts, the answer codec, metrics, baselines, the runner and reports."""
