#!/usr/bin/env python3
"""Writes the shapes of the requests that src/wire/guard.rs walks.

    scripts/request-shapes.py SCHEMAS > src/wire/shapes.rs

SCHEMAS is a folder with the JSON schemas of Apache Kafka 4.3, searched recursively.
The schemas are not part of this repository. Run it again when src/wire/versions.rs
serves a further API or version; `rustfmt` has to be on the path.
"""
import json
import pathlib
import re
import subprocess
import sys

COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.S)
FIXED = {"bool": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "int64": 8, "float64": 8, "uuid": 16}
# Written by hand, with codecs that need no guard.
HOT = {"Produce", "Fetch"}


def versions(text):
    if text.endswith("+"):
        return int(text[:-1]), "LAST"
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def kind(name, structs):
    if name in FIXED:
        return f"Kind::Fixed({FIXED[name]})"
    if name == "string":
        return "Kind::Text"
    if name == "bytes":
        return "Kind::Bytes"
    return f"Kind::Struct({shape(structs[name], structs)})"


def shape(fields, structs):
    lines = []
    for field in fields:
        assert "tag" not in field, f"{field['name']} is tagged: the guard does not look into tagged fields"
        array = field["type"].startswith("[]")
        name = field["type"].removeprefix("[]")
        structs = dict(structs, **({name: field["fields"]} if "fields" in field else {}))
        low, high = versions(field["versions"])
        is_struct = not array and name not in FIXED and name not in ("string", "bytes")
        assert not is_struct or field.get("nullableVersions") == field["versions"], f"{field['name']} is a struct that is never null"
        of = f"Kind::Maybe({shape(structs[name], structs)})" if is_struct else kind(name, structs)
        lines.append(f"// {field['name']}\nField {{ from: {low}, to: {high}, array: {str(array).lower()}, kind: {of} }},")
    return "&[\n" + "\n".join(lines) + "\n]"


def main(folder):
    root = pathlib.Path(__file__).resolve().parent.parent
    served = re.findall(r'^    api\(ApiKey::(\w+)', (root / "src/wire/versions.rs").read_text(), re.M)
    out = [
        "//! The shapes of the requests served: which fields, in which versions, of which kind.\n//!\n"
        "//! Written by scripts/request-shapes.py from Kafka's schemas; not to be edited.\n",
        "use kafka_protocol::messages::ApiKey;\n\nuse super::guard::{Field, Kind, LAST};\n",
        "/// The fields of a request. Those of the hand-written codecs are not here.",
        "pub(super) fn shape(api: ApiKey) -> Option<&'static [Field]> {\n    Some(match api {",
    ]
    for name in served:
        if name in HOT:
            continue
        (path,) = pathlib.Path(folder).rglob(f"{name}Request.json")
        schema = json.loads(COMMENT.sub(lambda m: m[1] or "", path.read_text()))
        structs = {s["name"]: s["fields"] for s in schema.get("commonStructs", [])}
        out.append(f"ApiKey::{name} => {shape(schema['fields'], structs)},")
    out.append("        _ => return None,\n    })\n}")
    text = "\n".join(out)
    print(subprocess.run(["rustfmt", "--edition", "2024", "--config", "max_width=120"], input=text, capture_output=True, text=True, check=True).stdout, end="")


main(sys.argv[1])
