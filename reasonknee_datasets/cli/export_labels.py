"""The command that reads MOAKS tables."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from reasonknee_datasets.cli.arguments import Command, add_acl, local

if TYPE_CHECKING:
    from reasonknee_datasets.oai.moaks_tables import MoaksTables


def _projects(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _add_export_labels(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "tables",
        metavar="TABLE",
        nargs="+",
        type=local,
        help="MOAKS tables of OAI (ASCII, CSV, SAS) or of the release (data/labels), or folders of them",
    )
    command.add_argument("--out", type=local, required=True, help="the .csv file for the labels")
    command.add_argument(
        "--readings",
        choices=("first", "latest", "agree", "all"),
        default="agree",
        help="rule for several readings of one knee and visit (default: %(default)s)",
    )
    command.add_argument(
        "--projects",
        type=_projects,
        metavar="NAMES",
        help="reading projects, first to last: 22,30,63A (default: by number and letter)",
    )
    add_acl(command)
    command.add_argument(
        "--compare",
        type=local,
        metavar="RELEASE",
        help="compare the tables with the grades of the official release; writes agreement.csv and disagreements.csv "
        "next to --out",
    )


def _export_labels(arguments: argparse.Namespace) -> None:
    from reasonknee_datasets.oai.moaks_comparison import (
        compare_grades,
        read_released_grades,
        write_labels,
        write_table_comparison,
    )
    from reasonknee_datasets.oai.moaks_tables import read_moaks_tables, resolve_readings

    tables = read_moaks_tables(arguments.tables, acl=arguments.acl)
    comparison = None
    if arguments.compare is not None:
        comparison = compare_grades(tables, read_released_grades(arguments.compare))
    rows = write_labels(arguments.out, resolve_readings(tables, arguments.readings, projects=arguments.projects))
    _print_tables(tables)
    print(f"{arguments.out}: {rows:,} rows")
    if comparison is None:
        return
    total = comparison.total()
    share = "no grade in both" if total.share is None else f"{total.share:.2%} of grades equal"
    print(f"{share}, {total.different:,} different, {total.only_released:,} released without one in the tables")
    held = comparison.records - comparison.unmatched
    print(f"  {comparison.records:,} released records, {held:,} of them of knees and visits that the tables hold")
    for path in write_table_comparison(arguments.out.parent, comparison):
        print(path)


def _print_tables(tables: MoaksTables) -> None:
    print(f"{len(tables.readings):,} readings; {tables.duplicates:,} exact duplicates dropped")
    for (variable, code), count in sorted(tables.unmapped.items()):
        label = tables.labels.get((variable, code))
        print(f"  {variable} code {code}{f' ({label})' if label else ''} has no grade: {count:,} cells left empty")


COMMANDS: dict[str, Command] = {
    "export-labels": (_add_export_labels, _export_labels, "read MOAKS tables and write coarse labels of every knee"),
}
