"""Validates exports for Kubernetes' ecosystem against the projects' own schemas.

    python benchmarks/validate_exports_k8s.py --crds DIR [--charts DIR]

What is exported to five targets: the demo's plan, the oddities of tests/export/made_fleets.py, and
the names of odd_plans.py.

--crds    a folder with CustomResourceDefinitions (*.yaml) as the projects publish them:
          LLMInferenceService (KServe), LeaderWorkerSet, HTTPRoute and Gateway (Gateway API),
          InferenceModelRewrite (llm-d router), DynamoGraphDeployment (Dynamo)
--charts  a folder with NAME.values.schema.json or NAME.values.yaml of the charts vllm-stack and
          llm-d-router-gateway; by the latter, every value that is set must be one the chart has

None of these files is part of this repository. A document is read as an API server does that was
asked to be strict: a field that its schema does not know is an error. The judge is tried, too: each
document is judged once more with a field that nobody knows, which must be found. Rules in CEL are
evaluated where the package cel-python is there. What no schema was found for is said. Exit code 1:
something is not valid.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

try:
    import celpy
except ImportError:
    celpy = None

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "export")]

from made_fleets import FLEETS  # noqa: E402
from odd_plans import odd_fleet  # noqa: E402

from planner.errors import InputError  # noqa: E402
from planner.export.targets import target_of  # noqa: E402

# As it is, the package reads 2 MB of schemas for each document.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)

TARGETS = ("kubernetes", "helm-production-stack", "kserve", "llm-d", "dynamo")
CORE = ("v1", "apps/v1", "policy/v1")
NO_OBJECT = "kustomize.config.k8s.io/v1beta1"
CHARTS = {"values.yaml": "vllm-stack", "router-": "llm-d-router-gateway"}
OF_TEMPLATES = ("timeoutSeconds",)
"""Of probes: vllm-stack's chart.templateProbe reads it, though its values.yaml has none."""
N_RULES: Counter[str] = Counter()
ANY = {"x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"}


def main() -> int:
    """Returns 0 where everything that could be judged is valid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crds", type=Path, required=True)
    parser.add_argument("--charts", type=Path)
    given = parser.parse_args()
    schemas, charts = read_crds(given.crds), read_charts(given.charts)
    valid: Counter[tuple[str, str]] = Counter()
    unjudged: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    for target, fleet, path, document in exported():
        what, found = judge(path, document, schemas, charts)
        key = (target, what)
        if found is None:
            unjudged[key] += 1
        elif found:
            faults += [f"{target}, {fleet}, {path}: {fault}" for fault in found]
        elif not judge(path, spoilt(document), schemas, charts)[1]:
            faults.append(f"{target}, {fleet}, {path}: an unknown field of {what} is not found")
        else:
            valid[key] += 1
    for (target, what), n in sorted(valid.items()):
        print(f"valid     {target:22} {what:40} {n:4}")
    for (target, what), n in sorted(unjudged.items()):
        print(f"no schema {target:22} {what:40} {n:4}")
    for how, n in N_RULES.items():
        print(f"rules in CEL, {how}: {n}")
    for fault in faults:
        print(f"INVALID   {fault}")
    return 1 if faults else 0


def spoilt(document: Any) -> Any:
    """Returns a document with a field too many, as deep as its spec goes by first entries."""
    made = json.loads(json.dumps(document))
    inner = made.get("spec", made)
    if "data" in made or not inner or "apiVersion" not in document:
        inner = next((v for v in (made.get("router"), made.get("routerSpec")) if v), made)
    inner["nobodyKnows"] = 1
    return made


def exported() -> Iterator[tuple[str, str, str, Any]]:
    """Yields target, fleet, file and document of everything that can be exported."""
    for name in TARGETS:
        for kind, make in {**FLEETS, "odd-plan": odd_fleet}.items():
            fleet = make()
            try:
                files = target_of(name).files(fleet)
            except InputError as refused:
                print(f"refused   {name:22} {kind}: {refused.faults[0].what}")
                continue
            for file in files:
                if not file.path.endswith(".yaml"):
                    continue
                for document in yaml.safe_load_all(file.text):
                    yield name, kind, file.path, document


def judge(
    path: str, document: Any, schemas: Mapping[tuple[str, str], Any], charts: Mapping[str, Any]
) -> tuple[str, list[str] | None]:
    """Returns what a document is, and what is wrong with it; None: there is no schema for it."""
    if "apiVersion" not in document:
        chart = next((c for start, c in CHARTS.items() if path.startswith(start)), "?")
        known = [check for name, check in charts.items() if name.startswith(f"{chart}.")]
        wrong = [fault for check in known for fault in check(document)]
        return f"values of {chart}", wrong if known else None
    version, kind = document["apiVersion"], document["kind"]
    what = f"{version} {kind}"
    if version in CORE:
        return what, core_faults(document)
    if (version, kind) not in schemas:
        return what, None
    schema = schemas[version, kind]
    wrong = schema_faults(schema, document)
    wrong += rule_faults(schema, with_defaults(schema, document), kind)
    for template in pod_templates(document):
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = {"name": "x", **template.get("metadata", {})}
        # A template may leave to the operator what every pod must have: images, for instance.
        wrong += [f for f in core_faults(pod) if "is a required property" not in f]
    return what, wrong


def core_faults(document: Mapping[str, Any]) -> list[str]:
    """Returns what the newest Kubernetes schemas find wrong."""
    try:
        kubernetes_validate.validate(
            dict(document), kubernetes_validate.latest_version(), strict=True
        )
    except kubernetes_validate.ValidationError as error:
        return [f"{document['kind']} {error}"]
    return []


def schema_faults(schema: Any, document: Any) -> list[str]:
    """Returns what a JSON schema finds wrong."""
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{e.json_path}: {e.message[:200]}" for e in validator.iter_errors(document)]


def rule_faults(schema: Any, value: Any, at: str) -> list[str]:
    """Returns which rules in CEL a value breaks, it and all that is in it; counts them."""
    if celpy is None:
        return []
    wrong = []
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"]:  # of changes
            try:
                holds = _program(rule["rule"]).evaluate({"self": celpy.json_to_cel(value)})
            except (celpy.CELEvalError, TypeError):  # a function of Kubernetes' own
                N_RULES["not evaluated"] += 1
                continue
            N_RULES["evaluated"] += 1
            if not holds:
                wrong.append(f"{at}: {rule.get('message', rule['rule'])}")
    if isinstance(value, Mapping):
        for key, inner in schema.get("properties", {}).items():
            if key in value:
                wrong += rule_faults(inner, value[key], f"{at}.{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            wrong += rule_faults(schema.get("items", {}), inner, f"{at}[{i}]")
    return wrong


@cache
def _program(rule: str) -> Any:
    environment = celpy.Environment()
    own = {"lowerAscii": lambda text: celpy.celtypes.StringType(text.lower())}
    return environment.program(environment.compile(rule), functions=own)


def with_defaults(schema: Any, value: Any) -> Any:
    """Returns a value with the defaults that the API server fills in."""
    if isinstance(value, Mapping):
        known = schema.get("properties", {})
        filled = {k: s["default"] for k, s in known.items() if "default" in s} | dict(value)
        return {k: with_defaults(known.get(k, {}), v) for k, v in filled.items()}
    if isinstance(value, list):
        return [with_defaults(schema.get("items", {}), each) for each in value]
    return value


def pod_templates(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yields the pod templates within a document: with metadata, or the bare spec."""
    if isinstance(value, Mapping):
        for inner in value.values():
            if isinstance(inner, Mapping) and "containers" in inner:
                yield {"spec": inner} if value.get("spec") is not inner else dict(value)
            else:
                yield from pod_templates(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pod_templates(inner)


def read_crds(folder: Path) -> dict[tuple[str, str], Any]:
    """Returns strict JSON schemas by version and kind."""
    schemas: dict[tuple[str, str], Any] = {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted(folder.glob("*.yaml")):
        for crd in yaml.load_all(path.read_text(), loader):
            if not isinstance(crd, dict) or crd.get("kind") != "CustomResourceDefinition":
                continue
            spec = crd["spec"]
            for version in spec["versions"]:
                key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                schemas[key] = schema
    return schemas


def strict(schema: Any) -> Any:
    """Returns an OpenAPI schema as JSON schema, in which unknown fields are errors."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {k: strict(v) for k, v in schema.items() if k not in ("format", "nullable")}
    if "properties" in schema:
        made["properties"] = {k: strict(v) for k, v in schema["properties"].items()}
        if "additionalProperties" not in schema and not any(schema.get(k) for k in ANY):
            made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
        made.pop("pattern", None)
    return made


def read_charts(folder: Path | None) -> dict[str, Any]:
    """Returns checks of values by chart and file: its schema, and the values that it has."""
    checks: dict[str, Any] = {}
    if folder is None:
        return checks
    for path in sorted(folder.glob("*.values.schema.json")):
        schema = json.loads(path.read_text())
        checks[path.name] = lambda document, s=schema: schema_faults(s, document)
    for path in sorted(folder.glob("*.values.yaml")):
        has = yaml.safe_load(path.read_text())
        checks[path.name] = lambda document, h=has: list(unknown_values(document, h, ""))
    return checks


def unknown_values(given: Any, has: Any, at: str) -> Iterator[str]:
    """Yields values that are set below a key for which the chart has none."""
    if not isinstance(given, Mapping) or not isinstance(has, Mapping) or not has:
        return
    for key, value in given.items():
        if key in OF_TEMPLATES:
            continue
        if key not in has:
            yield f"{at}{key}: the chart has no such value"
        elif not key.endswith("ecurityContext"):  # of Kubernetes, handed on as it is
            yield from unknown_values(value, has[key], f"{at}{key}.")


if __name__ == "__main__":
    sys.exit(main())
