"""`nin models`: the named networks."""

from typing import Any

import torchnin
from torchnin.commands.networks import Json
from torchnin.commands.output import result, table


def models(*, as_json: Json = False) -> None:
    """List the named networks: parameters, multiply-adds, input, whether weights ship, source."""
    rows: list[dict[str, Any]] = []
    for name in torchnin.list_models():
        entry = torchnin.model_entry(name)
        config = entry.config
        summary = torchnin.summarize(torchnin.create_model(name), (1, config.in_channels, config.image_size, config.image_size))
        rows.append(
            {
                "name": name,
                "num_parameters": summary.num_parameters,
                "num_macs": summary.num_macs,
                "input": [config.in_channels, config.image_size, config.image_size],
                "num_classes": config.num_classes,
                "min_image_size": config.min_image_size,
                "weights": None,
                "source": entry.source,
            }
        )
    text = table(
        ("network", "parameters", "MACs", "input", "classes", "weights", "source"),
        [
            (
                row["name"],
                f"{row['num_parameters']:,}",
                f"{row['num_macs']:,}",
                "x".join(map(str, row["input"])),
                str(row["num_classes"]),
                row["weights"] or "none",
                row["source"],
            )
            for row in rows
        ],
        right=frozenset({1, 2, 3, 4}),
    )
    result(rows, text, as_json)
