"""`nin explain`: class maps over the picture."""

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import torchnin
from torchnin.commands.networks import Json
from torchnin.commands.output import note, result


def explain(
    classifier: Annotated[str, tyro.conf.Positional],
    picture: Annotated[Path, tyro.conf.Positional],
    *,
    out: Path,
    top: int = 3,
    resize: bool = True,
    language: Literal["en", "zh"] = "en",
    device: str = "auto",
    as_json: Json = False,
) -> None:
    """Draw what the network saw where: the class maps of the most probable classes over the picture.

    Args:
        classifier: A run folder or a saved classifier's folder.
        picture: The picture to explain.
        out: The file to draw into: .png, .pdf or .svg.
        top: How many classes to draw.
        resize: Bring the picture to the size of the training pictures first, as `nin predict` does.
        language: Language of the labels: en or zh.
        device: auto, cpu, cuda or mps.
        as_json: Print one JSON document on standard output.
    """
    explanation = torchnin.load(classifier, device=device).explain(picture, resize=resize)
    explanation.save(out, top=top, language=language)
    rows: list[dict[str, Any]] = [
        {"label": name, "probability": float(probability), "logit": float(logit)}
        for name, probability, logit in zip(explanation.class_names, explanation.probabilities, explanation.logits, strict=True)
    ]
    rows.sort(key=lambda row: -row["probability"])
    note(f"class maps: {out}")
    text = "\n".join(f"{row['label']}: probability {row['probability']:.4f}, mean of its map {row['logit']:.3f}" for row in rows[:top])
    result({"path": str(picture), "out": str(out), "classes": rows}, text, as_json)
