"""Which subject a place in prose is about: finding, site, side and part, as far as they have been named.

A subject is a handful of facets. Naming a structure narrows or replaces facets of the running context; a grade belongs
to the question that was asked only while no facet of the context contradicts it.
"""

from __future__ import annotations

from dataclasses import dataclass

from reasonknee_datasets.bench.answers.subject_names import BONES, MENISCUS, ON_BONE, ON_MENISCUS, Facets, asked_facets
from reasonknee_datasets.moaks import Question


def _sites_of(findings: frozenset[str]) -> frozenset[str]:
    sites: frozenset[str] = frozenset()
    for finding in findings:
        sites |= BONES if finding in ON_BONE else MENISCUS if finding in ON_MENISCUS else frozenset((finding,))
    return sites


@dataclass(slots=True)
class Context:
    """What has been named so far."""

    facets: dict[str, frozenset[str]]

    def name(self, mention: Facets) -> None:
        """Narrow the context by a mention, or replace what it contradicts."""
        finding, site = mention.get("finding"), mention.get("site")
        if finding is not None:
            self._name_finding(finding, has_site=site is not None)
        if site is not None:
            self._name_site(site)
        for facet in ("side", "part", "direction"):
            if facet in mention:
                self._drop_pole(facet, mention[facet])
                self._set(facet, mention[facet])

    def _name_finding(self, finding: frozenset[str], *, has_site: bool) -> None:
        if not has_site and "site" in self.facets and not (self.facets["site"] & _sites_of(finding)):
            self._drop("site", "side", "part", "direction")
        self._set("finding", finding)

    def _name_site(self, site: frozenset[str]) -> None:
        if "site" in self.facets and not (self.facets["site"] & site):
            self._drop("side", "part", "direction")
        if "finding" in self.facets and not (_sites_of(self.facets["finding"]) & site):
            self._drop("finding")
        self._set("site", site)

    def _drop_pole(self, facet: str, value: frozenset[str]) -> None:
        """Drop the other half of a place that has a side or a pole, but not both."""
        on_patella = self.facets.get("site") == frozenset(("patella",))
        if facet == "side" and (on_patella or self.facets.get("part") == frozenset(("subspinous",))):
            self._drop("part")
        if facet == "part" and ("subspinous" in value or (on_patella and value & {"superior", "inferior"})):
            self._drop("side")

    def _set(self, facet: str, value: frozenset[str]) -> None:
        both = self.facets.get(facet, value) & value
        self.facets[facet] = both or value

    def _drop(self, *facets: str) -> None:
        for facet in facets:
            self.facets.pop(facet, None)

    def joined(self, mentions: list[Facets]) -> Context:
        """Copy the context and name more in the copy."""
        copy = Context(dict(self.facets))
        for mention in mentions:
            copy.name(mention)
        return copy

    def contradicts(self, question: Question) -> bool:
        """Check whether another subject than the asked one has been named."""
        asked = asked_facets(question.id)
        return any(facet in asked and not (asked[facet] & value) for facet, value in self.facets.items())

    def is_asked(self, question: Question) -> bool:
        """Check whether the asked subject has been named, and nothing that contradicts it."""
        return bool({"finding", "site"} & self.facets.keys()) and not self.contradicts(question)
