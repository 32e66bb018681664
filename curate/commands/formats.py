"""formats: which file formats can be read and written."""

from __future__ import annotations

from curate.commands.options import JsonOption
from curate.commands.output import print_json


def formats(json: JsonOption = False) -> None:
    """List the file formats that can be imported and exported, those of plugins too."""
    from curate.formats.registry import FORMATS
    from curate.report.terminal import print_table

    rows = [
        {"format": name, "read": True, "write": known.is_written, "layers": known.holds_layers}
        for name, known in FORMATS
    ]
    if json:
        for row in rows:
            print_json(row)
        return
    print_table(
        [
            {
                "format": row["format"],
                "import": "yes",
                "export": "yes" if row["write"] else "no",
                "export --layer all": "yes" if row["layers"] and row["write"] else "no",
            }
            for row in rows
        ]
    )
