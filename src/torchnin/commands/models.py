"""`nin models`: the named networks."""

from typing import Any

import torchnin
from torchnin.commands.networks import Json, shape_text
from torchnin.commands.output import result, table


def models(*, as_json: Json = False) -> None:
    """List the named networks: parameters, multiply-adds, input, the weights that ship and their accuracy, source."""
    import torch

    rows: list[dict[str, Any]] = []
    shipped = [torchnin.weights_entry(name) for name in torchnin.list_weights()]
    for name in torchnin.list_models():
        entry = torchnin.model_entry(name)
        config = entry.config
        with torch.device("meta"):  # shapes alone: no weights are drawn
            network = torchnin.create_model(name)
        summary = torchnin.summarize(network, (1, config.in_channels, config.image_size, config.image_size))
        rows.append(
            {
                "name": name,
                "num_parameters": summary.num_parameters,
                "num_macs": summary.num_macs,
                "input": [config.in_channels, config.image_size, config.image_size],
                "num_classes": config.num_classes,
                "min_image_size": config.min_image_size,
                "weights": [
                    {
                        "name": weights.name,
                        "data": weights.data,
                        "input": [weights.config.in_channels, weights.config.image_size, weights.config.image_size],
                        "test_accuracy": weights.test_accuracy,
                        "test_accuracy_interval": list(weights.test_accuracy_interval),
                    }
                    for weights in shipped
                    if weights.network == name
                ],
                "source": entry.source,
            }
        )
    text = table(
        ("network", "parameters", "MACs", "input", "classes", "weights, test accuracy", "source"),
        [
            (
                row["name"],
                f"{row['num_parameters']:,}",
                f"{row['num_macs']:,}",
                shape_text(row["input"]),
                str(row["num_classes"]),
                ", ".join(_reaches(weights, row["input"]) for weights in row["weights"]) or "none",
                row["source"],
            )
            for row in rows
        ],
        right=frozenset({1, 2, 3, 4}),
    )
    result(rows, text, as_json)


def _reaches(weights: dict[str, Any], usual: list[int]) -> str:
    size = "" if weights["input"] == usual else f" at {shape_text(weights['input'])}"
    return f"{weights['name']} {weights['test_accuracy']:.2%}{size}"
