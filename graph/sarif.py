"""Findings as SARIF 2.1.0, the form that code hosts and CI show beside a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from urllib.parse import quote

from .findings import RULES, Finding, Rule, Severity
from .jsontext import JSON

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(findings: Mapping[str, Sequence[Finding]], *, version: str) -> dict[str, JSON]:
    """One run over the given files, as a SARIF log.

    Args:
        findings: by file, as the caller named it; "/" or the system's own separator.
        version: of this program.
    """
    used = sorted({finding.rule for found in findings.values() for finding in found})
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "atelier lint",
                        "semanticVersion": version,
                        "rules": [_rule(RULES[rule]) for rule in used],
                    }
                },
                "results": [
                    _result(file, finding, used.index(finding.rule))
                    for file in sorted(findings)
                    for finding in findings[file]
                ],
            }
        ],
    }


def _rule(rule: Rule) -> dict[str, JSON]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "defaultConfiguration": {"level": _level(rule.severity)},
    }


def _level(severity: Severity) -> str:
    return severity.value  # SARIF has the same three words


def _result(file: str, finding: Finding, rule_index: int) -> dict[str, JSON]:
    location: dict[str, JSON] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(file)}, "region": {"startLine": 1}}
    }
    if finding.node_id is not None:
        name = f"{finding.node_id} {finding.class_type}" + (f".{finding.input_name}" if finding.input_name else "")
        location["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "object"}]
    place = f"{finding.where}: " if finding.where else ""
    link = f" ({finding.url})" if finding.url else ""
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": _level(finding.severity),
        "message": {"text": f"{place}{finding.message}; {finding.remedy}{link}"},
        "locations": [location],
    }


def _uri(file: str) -> str:
    return quote(PurePath(file).as_posix())
