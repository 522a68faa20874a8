#!/usr/bin/env python3
"""Writes the Rust codecs of the records that Kafka keeps in its own logs.

    scripts/record-codecs.py SCHEMAS

SCHEMAS is a folder with the JSON schemas of Apache Kafka 4.3 (searched
recursively: metadata records, coordinator keys and values, control records).
The schemas are not part of this repository, the Rust written from them is:

    src/metadata/records/generated.rs   __cluster_metadata
    src/record/stored/control.rs        control records of any log
    src/record/stored/group.rs          __consumer_offsets
    src/record/stored/transaction.rs    __transaction_state
    src/record/stored/share.rs          __share_group_state

Run it again when a new Kafka release adds a record version; `rustfmt` has to be
on the path. What the codecs promise is told in src/record/stored/mod.rs.
"""
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAST = 32767
COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.S)
CONTROL = ["LeaderChangeMessage", "SnapshotHeaderRecord", "SnapshotFooterRecord", "KRaftVersionRecord", "VotersRecord", "EndTxnMarker"]
KEYWORDS = {"type": "kind", "match": "matches"}
PRIMITIVE = {
    "bool": ("bool", "false"), "int8": ("i8", "0"), "int16": ("i16", "0"), "uint16": ("u16", "0"),
    "int32": ("i32", "0"), "int64": ("i64", "0"), "float64": ("f64", "0.0"), "uuid": ("Uuid", "Uuid::ZERO"),
}


def versions(text, last=LAST):
    """The inclusive range a schema means by "0", "0+", "1-3" or "none"."""
    if text in (None, "none"):
        return None
    if text.endswith("+"):
        return (int(text[:-1]), last)
    low, _, high = text.partition("-")
    return (int(low), int(high or low))


def snake(name):
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)).lower()
    return KEYWORDS.get(name, name)


def test(interval, valid, always, name="version"):
    """A Rust condition for a version range within the valid one; `always` when it is all of it."""
    low, high = interval
    parts = ([f"{name} >= {low}"] if low > valid[0] else []) + ([f"{name} <= {high}"] if high < valid[1] else [])
    if low == high and len(parts) == 2:
        return f"{name} == {low}"
    return " && ".join(parts) or always


class Field:
    def __init__(self, json_field, struct):
        self.name, self.struct = json_field["name"], struct
        self.rust = snake(self.name)
        self.type = json_field["type"]
        self.array = self.type.startswith("[]")
        self.element = self.type[2:] if self.array else self.type
        self.versions = versions(json_field.get("versions", "0+"))
        self.nullable = versions(json_field.get("nullableVersions"))
        self.tagged = versions(json_field.get("taggedVersions"))
        self.tag = json_field.get("tag")
        self.ignorable = json_field.get("ignorable", False)
        default = json_field.get("default", "")
        # Only the text "null" means null; a JSON null is no default at all to Kafka's generator.
        self.default_null = default == "null"
        self.default_text = "" if self.default_null or default is None else str(default)

    def base(self):
        if self.element in PRIMITIVE:
            one = PRIMITIVE[self.element][0]
        elif self.element in ("string", "bytes"):
            one = {"string": "String", "bytes": "Bytes"}[self.element]
        else:
            one = self.struct.file.struct_names[(self.struct.top.name, self.element)]
        return f"Vec<{one}>" if self.array else one

    def rust_type(self):
        return f"Option<{self.base()}>" if self.nullable else self.base()

    def default(self):
        if self.nullable and self.default_null:
            return "None"
        if self.array:
            value = "Vec::new()"
        elif self.element == "bool":
            value = (self.default_text or "false").lower()
        elif self.element in PRIMITIVE:
            value = self.default_text or PRIMITIVE[self.element][1]
        elif self.element == "string":
            value = f'"{self.default_text}".to_string()' if self.default_text else "String::new()"
        elif self.element == "bytes":
            value = "Bytes::new()"
        else:
            value = f"{self.base()}::default()"
        return f"Some({value})" if self.nullable else value

    def is_default(self):
        """A Rust condition: the field has the value that is not written."""
        at = f"self.{self.rust}"
        if self.nullable and self.default_null:
            return f"{at}.is_none()"
        if self.nullable:
            return f"{at} == {self.default()}"
        if self.array or self.element in ("string", "bytes"):
            return f"{at}.is_empty()"
        if self.element == "bool":
            return at if self.default_text == "true" else f"!{at}"
        if self.element in PRIMITIVE:
            return f"{at} == {self.default()}"
        return f"{at} == {self.base()}::default()"

    # One element: reading and writing.
    def read_one(self, source, flexible):
        if self.element in PRIMITIVE:
            return f"{source}.{PRIMITIVE[self.element][0].lower()}()?"
        if self.element in ("string", "bytes"):
            return f'{source}.{self.element}({flexible})?.ok_or(DecodeError::Null("{self.name}"))?'
        return f"{self.struct.file.struct_names[(self.struct.top.name, self.element)]}::read({source}, version)?"

    def write_one(self, value, flexible, by_value):
        if self.element in PRIMITIVE:
            return f"out.{PRIMITIVE[self.element][0].lower()}({value if by_value else '*' + value});"
        if self.element in ("string", "bytes"):
            return f"out.{self.element}(Some({'&' + value if by_value else value}), {flexible})?;"
        return f"{value}.write(out, version)?;"

    def read(self, source, flexible, valid):
        null = f'DecodeError::Null("{self.name}")'
        allowed = None if not self.nullable else test(self.nullable, valid, "true")
        structure = not self.array and self.element not in PRIMITIVE and self.element not in ("string", "bytes")
        if self.array:
            one = self.read_one("input", flexible)[:-1]
            one = f"Reader::{PRIMITIVE[self.element][0].lower()}" if self.element in PRIMITIVE else f"|input| {one}"
            inner = f"{source}.list({flexible}, {one})?"
        elif self.element in ("string", "bytes"):
            inner = f"{source}.{self.element}({flexible})?"
        elif structure and self.nullable:
            inner = f"if {source}.presence({'true' if self.tagged else 'false'})? {{ Some({self.read_one(source, flexible)}) }} else {{ None }}"
            return inner if allowed == "true" else f"if {allowed} {{ {inner} }} else {{ Some({self.read_one(source, flexible)}) }}"
        else:
            return self.read_one(source, flexible)
        if not self.nullable:
            return f"{inner}.ok_or({null})?"
        return inner if allowed == "true" else f"nullable({inner}, {allowed}, {null})?"

    def write(self, flexible, valid):
        at = f"self.{self.rust}"
        structure = not self.array and self.element not in PRIMITIVE and self.element not in ("string", "bytes")
        lines = []
        if self.nullable:
            allowed = test(self.nullable, valid, "true")
            if allowed != "true":
                refused = f"!({allowed})" if "&&" in allowed else allowed.replace(">=", "<") if ">=" in allowed else f"!({allowed})"
                lines.append(f'if {refused} && {at}.is_none() {{ return Err(EncodeError::Null {{ field: "{self.name}", version }}); }}')
        if self.array:
            option = f"{at}.as_deref()" if self.nullable else f"Some(&{at}[..])"
            scalar = "value"
            lines.append(f"out.list({option}, {flexible}, |out, {scalar}| {{ {self.write_one(scalar, flexible, False)} Ok(()) }})?;")
        elif self.element in ("string", "bytes"):
            option = f"{at}.as_deref()" if self.nullable else f"Some(&{at})"
            lines.append(f"out.{self.element}({option}, {flexible})?;")
        elif structure and self.nullable:
            allowed = test(self.nullable, valid, "true")
            tag = "true" if self.tagged else "false"
            presence = f"out.presence(true, {tag});" if allowed == "true" else f"if {allowed} {{ out.presence(true, {tag}); }}"
            lines.append(f"match &{at} {{ Some(value) => {{ {presence} value.write(out, version)?; }} None => out.presence(false, {tag}), }}")
        else:
            lines.append(self.write_one(at, flexible, True))
        return "\n".join(lines)


class Struct:
    def __init__(self, file, top, name, json_fields, valid, flexible):
        self.file, self.top, self.name = file, top or self, name
        self.valid, self.flexible = valid, flexible
        self.json_fields = json_fields

    def rust_name(self):
        return self.file.struct_names[(self.top.name, self.name)]

    def render(self, top_level):
        fields = [Field(f, self) for f in self.json_fields]
        rust, valid = self.rust_name(), self.valid
        flexible = "false" if self.flexible is None else test(self.flexible, valid, "true")
        sometimes = flexible not in ("true", "false")
        flex = "flexible" if sometimes else flexible
        tags = self.flexible is not None
        out = []
        floats = "float64" in json.dumps(self.json_fields)
        out.append(f"/// `{self.top.name}`{'' if top_level else ', part `' + self.name + '`'}; versions {valid[0]} to {valid[1]}.")
        out.append(f"#[derive(Clone, Debug, PartialEq{'' if floats else ', Eq'})]\npub struct {rust} {{")
        for f in fields:
            notes = []
            low, high = f.versions
            if low > valid[0] or high < valid[1]:
                notes.append(f"version {low} only" if low == high else f"versions {low}+" if high >= valid[1] else f"versions {low} to {high}")
            if f.tagged:
                notes.append(f"tag {f.tag}")
            if f.nullable and f.nullable[0] > valid[0]:
                notes.append(f"may be null from version {f.nullable[0]}")
            if notes:
                text = ", ".join(notes)
                out.append(f"    /// {text[0].upper() + text[1:]}.")
            out.append(f"    pub {f.rust}: {f.rust_type()},")
        if tags:
            out.append("    /// Tagged fields this release does not know, kept as they were read.\n    pub unknown_tags: Tags,")
        out.append("}\n")
        out.append(f"impl Default for {rust} {{\n fn default() -> Self {{\n {rust} {{")
        out += [f"{f.rust}: {f.default()}," for f in fields]
        out += (["unknown_tags: Tags::default(),"] if tags else []) + ["}\n}\n}\n"]

        plain = [f for f in fields if not f.tagged]
        tagged = sorted((f for f in fields if f.tagged), key=lambda f: f.tag)
        read, write = [], []
        uses_flexible = False
        for f in fields:
            present = test(f.versions, valid, "true")
            if f.tagged:
                present = test(f.tagged, valid, "true")
            if present != "true" and not f.ignorable:
                absent = present.replace(">=", "<") if ">=" in present and "&&" not in present else f"!({present})"
                default = f.is_default()
                if default.startswith("!"):
                    set_ = default[1:]
                elif " == " in default:
                    set_ = default.replace(" == ", " != ")
                elif default.endswith(".is_none()"):
                    set_ = default.replace(".is_none()", ".is_some()")
                else:
                    set_ = "!" + default
                write.append(f'if {absent} && {set_} {{ return Err(EncodeError::NotInVersion {{ field: "{f.name}", version }}); }}')
        for f in plain:
            present = test(f.versions, valid, "true")
            get, put = f"record.{f.rust} = {f.read('input', flex, valid)};", f.write(flex, valid)
            read.append(get if present == "true" else f"if {present} {{ {get} }}")
            write.append(put if present == "true" else f"if {present} {{ {put} }}")
        if tags:
            arms, puts = [], []
            for f in tagged:
                present = test(f.tagged, valid, "true")
                guard = "" if present == "true" else f" if {present}"
                within = (max(f.tagged[0], valid[0]), min(f.tagged[1], valid[1]))
                arms.append(f"{f.tag}{guard} => record.{f.rust} = {f.read('input', 'true', within)},")
                default = f.is_default()
                write_field = f.write("true", within)
                not_default = f"!({default})" if not default.startswith("!") else default[1:]
                if default.endswith(".is_none()"):
                    not_default = default.replace(".is_none()", ".is_some()")
                elif " == " in default:
                    not_default = default.replace(" == ", " != ")
                elif default.endswith(".is_empty()"):
                    not_default = "!" + default
                cond = not_default if present == "true" else f"{present} && {not_default}"
                puts.append(f"if {cond} {{ tags.add({f.tag}, |out| {{ {write_field} Ok(()) }})?; }}")
            unknown = "record.unknown_tags.push(tag, input.rest()),"
            if arms:
                get = "input.tags(|tag, input| { match tag { " + "\n".join(arms) + f"_ => {unknown} }} Ok(()) }})?;"
                put = "let mut tags = TagWriter::new(&self.unknown_tags);\n" + "\n".join(puts) + "\nout.tags(tags)?;"
            else:
                get = "input.tags(|tag, input| { record.unknown_tags.push(tag, input.rest()); Ok(()) })?;"
                put = "out.tags(TagWriter::new(&self.unknown_tags))?;"
            read.append(get if not sometimes else f"if flexible {{ {get} }}")
            write.append(put if not sometimes else f"if flexible {{ {put} }} else if !self.unknown_tags.is_empty() {{ return Err(EncodeError::NotInVersion {{ field: \"tagged fields\", version }}); }}")
        body_read, body_write = "\n".join(read), "\n".join(write)
        let = f"let flexible = {flexible};\n"
        needs = lambda body: let if sometimes and re.search(r"\bflexible\b", body) else ""
        used = lambda body: "version" if re.search(r"(?<![.\w])version\b", body) else "_version"
        source = "input" if re.search(r"\binput\b", body_read) else "_input"
        target = "out" if re.search(r"\bout\b", body_write) else "_out"
        body_read, body_write = needs(body_read) + body_read, needs(body_write) + body_write
        mutable = "mut " if "record." in body_read else ""
        result = f"let {mutable}record = {rust}::default();\n{body_read}\nOk(record)"
        head, vis = (f"impl Stored for {rust}", "") if top_level else (f"impl {rust}", "")
        out.append(f"{head} {{")
        if top_level:
            out.append(f'const NAME: &\'static str = "{self.name}";\nconst VERSIONS: RangeInclusive<i16> = {valid[0]}..={valid[1]};\n')
        out.append(f"{vis}fn read({source}: &mut Reader<'_>, {used(body_read)}: i16) -> Result<Self, DecodeError> {{ {result} }}\n")
        out.append(f"{vis}fn write(&self, {target}: &mut Writer, {used(body_write)}: i16) -> Result<(), EncodeError> {{ {body_write}\nOk(()) }}\n}}\n")
        return "\n".join(out)


class File:
    """The structs of one Rust file; nested names stay short where they are the only ones."""

    def __init__(self, schemas):
        self.schemas = schemas
        self.structs, self.struct_names = [], {}
        for s in schemas:
            valid = versions(s["validVersions"])
            flexible = versions(s.get("flexibleVersions"), valid[1])
            if flexible and flexible[0] > valid[1]:
                flexible = None
            top = Struct(self, None, s["name"], s["fields"], valid, flexible)
            self.structs.append((top, True))
            for common in s.get("commonStructs", []):
                self.add(top, common["name"], common["fields"])
            self.nested(top, s["fields"])
            for common in s.get("commonStructs", []):
                self.nested(top, common["fields"])
        names = [name for struct, _ in self.structs for name in [struct.name]]
        for struct, is_top in self.structs:
            alone = names.count(struct.name) == 1
            stem = re.sub(r"(Record|Value|Key)$", "", struct.top.name)
            self.struct_names[(struct.top.name, struct.name)] = struct.name if is_top or alone else stem + struct.name

    def add(self, top, name, fields):
        if not any(s.top is top and s.name == name for s, _ in self.structs):
            self.structs.append((Struct(self, top, name, fields, top.valid, top.flexible), False))

    def nested(self, top, fields):
        for f in fields:
            if "fields" in f:
                self.add(top, f["type"].removeprefix("[]"), f["fields"])
                self.nested(top, f["fields"])

    def render(self):
        return "\n".join(struct.render(is_top) for struct, is_top in self.structs)


def stem(name):
    return re.sub(r"(Record|Key|Value)$", "", name)


def metadata_enum(schemas):
    out = ["/// A record of the metadata log.\n#[derive(Clone, Debug, PartialEq)]\npub enum MetadataRecord {"]
    out += [f"{stem(s['name'])}({s['name']})," for s in schemas]
    out.append("}\n\nimpl MetadataRecord {\n/// The number that names the kind of record in its frame.\npub fn api_key(&self) -> u32 { match self {")
    out += [f"MetadataRecord::{stem(s['name'])}(_) => {s['apiKey']}," for s in schemas]
    out.append("} }\n\n/// The schema's name.\npub fn name(&self) -> &'static str { match self {")
    out += [f"MetadataRecord::{stem(s['name'])}(_) => {s['name']}::NAME," for s in schemas]
    out.append("} }\n\n/// The newest version of this kind of record.\npub fn newest_version(&self) -> i16 { match self {")
    out += [f"MetadataRecord::{stem(s['name'])}(_) => *{s['name']}::VERSIONS.end()," for s in schemas]
    out.append("} }\n\n/// Writes the body, without the frame.\npub(super) fn write_body(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> { match self {")
    out += [f"MetadataRecord::{stem(s['name'])}(record) => record.encode_into(out, version)," for s in schemas]
    out.append("} }\n\n/// Reads the body of a record of the given kind.\npub(super) fn read_body(api_key: u32, input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> { Ok(match api_key {")
    out += [f"{s['apiKey']} => MetadataRecord::{stem(s['name'])}({s['name']}::decode_from(input, version)?)," for s in schemas]
    out.append("_ => return Err(DecodeError::UnknownKind(i64::from(api_key))),\n}) }\n}\n")
    out += [f"impl From<{s['name']}> for MetadataRecord {{ fn from(record: {s['name']}) -> Self {{ MetadataRecord::{stem(s['name'])}(record) }} }}\n" for s in schemas]
    return "\n".join(out)


def coordinator_enums(schemas, topic):
    keys = sorted((s for s in schemas if s["type"] == "coordinator-key"), key=lambda s: s["apiKey"])
    values = sorted((s for s in schemas if s["type"] == "coordinator-value"), key=lambda s: s["apiKey"])
    out = [f"/// The key of a record of `{topic}`.\n#[derive(Clone, Debug, PartialEq, Eq, Hash)]\npub enum Key {{".replace(", Hash", "")]
    out += [f"{stem(s['name'])}({s['name']})," for s in keys]
    out.append("}\n\nimpl Key {\n/// The number in front of the key, which names the kind of record.\npub fn kind(&self) -> i16 { match self {")
    out += [f"Key::{stem(s['name'])}(_) => {s['apiKey']}," for s in keys]
    out.append("} }\n\n/// The bytes of a record's key: its kind (int16), then the key itself.\npub fn encode(&self) -> Result<Vec<u8>, EncodeError> { let mut out = Writer::new(); out.i16(self.kind()); match self {")
    out += [f"Key::{stem(s['name'])}(key) => key.encode_into(&mut out, 0)?," for s in keys]
    out.append("} Ok(out.into_bytes()) }\n\n/// Reads a record's key. An unknown kind is an error of its own, for a reader that has to skip such records.\npub fn decode(bytes: &[u8]) -> Result<Key, DecodeError> { let mut input = Reader::new(bytes); let kind = input.i16()?; Ok(match kind {")
    out += [f"{s['apiKey']} => Key::{stem(s['name'])}({s['name']}::decode_from(&mut input, 0)?)," for s in keys]
    out.append("_ => return Err(DecodeError::UnknownKind(i64::from(kind))),\n}) }\n}\n")
    out.append(f"/// The value of a record of `{topic}`.\n#[derive(Clone, Debug, PartialEq, Eq)]\npub enum Value {{")
    out += [f"{stem(s['name'])}({s['name']})," for s in values]
    out.append("}\n\nimpl Value {\n/// Reads the value of a record whose key is of the given kind: its version (int16), then the value.\npub fn decode(kind: i16, bytes: &[u8]) -> Result<Value, DecodeError> { Ok(match kind {")
    out += [f"{s['apiKey']} => Value::{stem(s['name'])}({s['name']}::decode(bytes)?)," for s in values]
    out.append("_ => return Err(DecodeError::UnknownKind(i64::from(kind))),\n}) }\n\n/// The bytes of the value: the given version (int16), then the value.\npub fn encode(&self, version: i16) -> Result<Vec<u8>, EncodeError> { match self {")
    out += [f"Value::{stem(s['name'])}(value) => value.encode(version)," for s in values]
    out.append("} }\n}\n")
    return "\n".join(out)


def again(schemas):
    """A function for tests: reads a record by its schema's name and writes it again."""
    out = ["/// Reads a record by its schema's name and writes it again; `None` for other names.\n#[cfg(test)]"]
    out.append("pub(crate) fn again(name: &str, version: i16, input: &mut Reader<'_>) -> Option<Result<Vec<u8>, DecodeError>> {")
    out.append("fn one<T: Stored>(version: i16, input: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> { let mut out = Writer::new(); let record = T::decode_from(input, version)?; record.encode_into(&mut out, version).expect(\"what was read can be written\"); Ok(out.into_bytes()) }")
    out.append("Some(match name {")
    out += [f'{s["name"]}::NAME => one::<{s["name"]}>(version, input),' for s in schemas]
    out.append("_ => return None,\n})\n}\n")
    return "\n".join(out)


def emit(path, about, schemas, extra, primitives):
    file = File(schemas)
    body = extra + "\n" + file.render() + "\n" + again(schemas)
    names = [n for n in ("DecodeError", "EncodeError", "Reader", "Stored", "TagWriter", "Tags", "Writer", "nullable") if re.search(rf"\b{n}\b" if n != "nullable" else r"\bnullable\(", body)]
    uses = ["use std::ops::RangeInclusive;\n"]
    if re.search(r"\bBytes\b", body):
        uses.append("use bytes::Bytes;\n")
    if re.search(r"\bUuid\b", body):
        uses.append("use crate::base::Uuid;")
    uses.append(f"use {primitives}::{{{', '.join(names)}}};\n")
    text = f"//! {about}\n//!\n//! Written by `scripts/record-codecs.py` from the schemas of Apache Kafka 4.3:\n//! change that program, not this file.\n\n// A program writes one form for all structs, also where a shorter one would do.\n#![allow(clippy::field_reassign_with_default, clippy::derivable_impls)]\n\n" + "\n".join(uses) + "\n" + body
    target = ROOT / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    subprocess.run(["rustfmt", "--edition", "2024", "--config-path", str(ROOT), str(target)], check=True)
    print(f"{path}: {len(schemas)} schemas")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = {}
    for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.json")):
        schema = json.loads(COMMENT.sub(lambda found: found.group(1) or "", path.read_text()))
        if "type" in schema and schema["type"] in ("metadata", "coordinator-key", "coordinator-value", "data"):
            found.setdefault(schema["name"], (path, schema))

    def of(*folders):
        return [s for p, s in found.values() if s["type"].startswith("coordinator") and any(f in str(p) for f in folders)]

    metadata = sorted((s for _, s in found.values() if s["type"] == "metadata"), key=lambda s: s["apiKey"])
    emit("src/metadata/records/generated.rs", "The records of `__cluster_metadata`.", metadata, metadata_enum(metadata), "crate::record::stored")
    emit("src/record/stored/control.rs", "The bodies of control records: transaction markers and KRaft's own.", [found[n][1] for n in CONTROL], "", "super")
    for path, topic, folder in (
        ("src/record/stored/group.rs", "__consumer_offsets", "group-coordinator"),
        ("src/record/stored/transaction.rs", "__transaction_state", "transaction-coordinator"),
        ("src/record/stored/share.rs", "__share_group_state", "share-coordinator"),
    ):
        schemas = sorted(of(folder), key=lambda s: (s["apiKey"], s["type"]))
        emit(path, f"The records of `{topic}`.", schemas, coordinator_enums(schemas, topic), "super")


main()
