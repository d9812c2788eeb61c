"""``python -m reasonknee_datasets`` is ``reasonknee``."""

from reasonknee_datasets.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
