"""Writes the OCSF 1.8.0 JSON Schemas beside this file. Needs: pip install ocsf-json-schema==1.2.0"""
import json
import pathlib

from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

HERE = pathlib.Path(__file__).parent
WANTED = {
    "detection_finding": ["security_control", "host"],
    "detection_finding_container": ["security_control", "host", "container"],
    "process_remediation_activity": ["host"],
    "network_remediation_activity": ["host"],
}
CLASS = {"detection_finding_container": "detection_finding"}

schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0"))
for name, profiles in WANTED.items():
    text = schema.get_class_schema(CLASS.get(name, name), profiles)
    (HERE / f"{name}.schema.json").write_text(json.dumps(text, sort_keys=True, separators=(",", ":")) + "\n")
