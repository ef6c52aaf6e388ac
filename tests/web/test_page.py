"""The page in a real Chromium: each thing that a visitor can do, by what the visitor sees."""

import base64
import io
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from torchnin import (
    BlockConfig,
    ClassBlockConfig,
    Classifier,
    DatasetSplits,
    NiN,
    NiNConfig,
    Preprocessing,
    Recipe,
    Run,
    summarize,
    train,
)
from torchnin.explanation import block_maps
from torchnin.training.log import Both, Silent
from torchnin.web import Access, ServiceSettings, watched
from torchnin.web.samples import samples_json

playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser; it is in the extra [dev]")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe looks for faults; it is in the extra [dev]")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian, Ubuntu: apt-get install chromium)")


def network() -> NiN:
    """A small network whose answers differ from picture to picture without any training."""
    torch.manual_seed(3)
    blocks = (
        BlockConfig(channels=(8, 8, 8), kernel_size=5, stride=2, padding=2),
        BlockConfig(channels=(130, 16, 16), kernel_size=3, padding=1, pool=False),
    )
    last = ClassBlockConfig(hidden=(16, 16))
    network = NiN(NiNConfig(blocks=blocks, class_block=last, in_channels=1, num_classes=10, image_size=28, class_map_relu=False))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)
        list(network.class_block)[-1].weight.mul_(4.0)
    return network


@pytest.fixture(scope="module")
def classifier(few: DatasetSplits) -> Classifier:
    """Ten classes, grey, 28 pixels, two 1x1 convolutions in a block, class maps with both signs."""
    metadata = {"name": "nin_test", "data": {"name": "fashion-mnist-sample", "source": "inside the package"}, "test_accuracy": 0.125}
    return Classifier(network(), Preprocessing.of(few.train), few.class_names, metadata=metadata, device="cpu")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright.expect.set_options(timeout=300_000)
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(classifier: Classifier, service: Callable[..., Any]) -> Iterator[str]:
    with service(classifier) as client:
        yield str(client.base_url)


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the console complained of and what was asked of other hosts; whatever of it a test leaves there fails it."""
    found: list[str] = []
    yield found
    assert not found, found


@pytest.fixture
def visit(browser: Any, complaints: list[str]) -> Iterator[Callable[..., Any]]:
    """Opens an address as a visitor."""
    opened = []

    def go(
        address: str,
        *,
        width: int = 1280,
        height: int = 900,
        language: str = "en-US",
        scheme: str = "light",
        ready: str = "body.ready",
        touch: bool = False,
        hold: str = "",
        held: list[Any] | None = None,
    ) -> Any:
        """`ready` is waited for; requests to `hold` are put into `held` and wait to go on."""
        context = browser.new_context(viewport={"width": width, "height": height}, locale=language, color_scheme=scheme, has_touch=touch)
        opened.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith((address, "data:", "blob:")) else complaints.append(request.url))
        if held is not None:
            page.route(hold, lambda route: held.append(route))
        page.goto(address)
        page.wait_for_selector(ready, state="attached")
        return page

    yield go
    for context in opened:
        context.close()


@pytest.fixture
def page(visit: Callable[..., Any], address: str) -> Any:
    return visit(address)


def saw(page: Any, act: Callable[[], Any], *, settled: bool = True) -> tuple[bytes, dict[str, Any]]:
    """The picture that was sent because of `act`, and what the server answered; when this returns the page shows it."""
    layers = "layers=true" if settled else "layers=false"
    with page.expect_response(lambda response: layers in response.url) as awaited:
        act()
    response = awaited.value
    told = response.json()
    if settled:  # else the next answer may be there already
        playwright.expect(page.locator("#verdict")).to_have_text(f"{told['label']}, {100 * told['probability']:.1f}\u00a0%")
    return response.request.post_data_buffer, told


def verdict(classifier: Classifier, picture: Any) -> str:
    said = classifier.predict(picture)
    return f"{said.label}, {100 * said.probability:.1f}\u00a0%"


def sample(few_of: Classifier, label: str) -> np.ndarray:
    """The sample picture of a class, as the page offers it."""
    found = next(each for each in samples_json(few_of)["samples"] if each["label"] == label)
    return np.array(Image.open(io.BytesIO(base64.b64decode(found["picture"].split(",")[1]))))


def png(array: np.ndarray) -> bytes:
    kept = io.BytesIO()
    Image.fromarray(array).save(kept, "PNG")
    return kept.getvalue()


def shown(page: Any, selector: str) -> str:
    return str(page.locator(selector).inner_text())


def drawn(canvas: Any) -> np.ndarray:
    """What a canvas shows, (rows, columns, red green blue alpha)."""
    address = canvas.evaluate("canvas => canvas.toDataURL()")
    return np.array(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGBA"))


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def test_a_sample_is_answered_at_once(page: Any, classifier: Classifier) -> None:
    assert page.locator("#samples button").count() == 10
    for label in ("Bag", "Trouser"):
        sent, _ = saw(page, page.get_by_role("button", name=f"sample: {label}").click)
        picture = sample(classifier, label)
        assert np.array_equal(np.array(Image.open(io.BytesIO(sent))), picture)  # the picture itself, not a copy of the screen
        assert shown(page, "#verdict") == verdict(classifier, picture)
    assert "nin_test" in shown(page, "#who")
    assert "12.5" in shown(page, "#who")


def test_class_maps_with_their_means_and_the_softmax(page: Any, classifier: Classifier) -> None:
    saw(page, page.get_by_role("button", name="sample: Dress").click)
    page.get_by_role("button", name="Show all 10 classes").click()
    explanation = classifier.explain(sample(classifier, "Dress"))
    rows = page.locator(".class-row[data-class]")
    assert rows.count() == 10
    means = explanation.class_maps.double().mean((1, 2))
    for row in rows.all():
        index = classifier.class_names.index(row.get_attribute("data-class"))
        mean, softmax = row.locator(".mean b, .softmax b").all_inner_texts()
        assert number(mean) == pytest.approx(float(means[index]), abs=0.0051)
        assert number(mean) == pytest.approx(float(explanation.logits[index]), abs=0.0051)
        assert number(softmax.split("\u00a0")[0]) == pytest.approx(100 * float(explanation.probabilities[index]), abs=0.051)
    order = [row.get_attribute("data-class") for row in rows.all()]
    assert order == [classifier.class_names[index] for index in explanation.top(10)]


@pytest.mark.parametrize("width", [1280, 360])
def test_a_sure_answer_has_room_before_its_bar(
    width: int, visit: Callable[..., Any], service: Callable[..., Any], few: DatasetSplits
) -> None:
    sure = network()
    with torch.no_grad():
        list(sure.class_block)[-1].weight.mul_(100.0)
    with service(Classifier(sure, Preprocessing.of(few.train), few.class_names, device="cpu")) as client:
        page = visit(str(client.base_url), width=width)
        told = page.locator(".class-row.best .softmax b")
        assert told.inner_text() == "100.0\u00a0%"
        assert told.evaluate("text => text.scrollWidth <= text.clientWidth")
        page.context.close()


def test_a_class_map_is_laid_over_the_large_picture(page: Any) -> None:
    def coloured() -> bool:
        pixels = drawn(page.locator("#stage")).astype(int)
        return bool((abs(pixels[..., 0] - pixels[..., 2]) > 20).any())

    assert not coloured()  # a grey picture
    button = page.locator(".class-row button.map").first
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert coloured()
    button.press("Enter")
    assert not coloured()


CARRIED = """data => { const carried = new DataTransfer();
    const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
    carried.items.add(new File([bytes], "mine.png", { type: "image/png" })); return carried; }"""


def drop(page: Any, content: bytes) -> None:
    """Drop a file on the page."""
    page.dispatch_event("body", "drop", {"dataTransfer": page.evaluate_handle(CARRIED, base64.b64encode(content).decode())})


@pytest.mark.parametrize("way", ["drop", "paste", "choose"])
def test_a_picture_of_ones_own(way: str, page: Any, classifier: Classifier, few: DatasetSplits) -> None:
    picture = np.kron(few.test.images[7, 0], np.ones((3, 3), np.uint8))
    data = base64.b64encode(png(picture)).decode()

    def act() -> None:
        if way == "choose":
            page.set_input_files("#file", files=[{"name": "mine.png", "mimeType": "image/png", "buffer": png(picture)}])
        elif way == "drop":
            page.dispatch_event("#answer", "dragenter", {"dataTransfer": page.evaluate_handle(CARRIED, data)})
            assert page.get_by_text("Drop the picture", exact=True).is_visible()
            page.dispatch_event("#answer", "drop", {"dataTransfer": page.evaluate_handle(CARRIED, data)})
        else:
            page.evaluate(f"data => document.dispatchEvent(new ClipboardEvent('paste', {{ clipboardData: ({CARRIED})(data) }}))", data)

    saw(page, act)
    assert shown(page, "#verdict") == verdict(classifier, picture)
    assert not page.get_by_text("Drop the picture", exact=True).is_visible()


def test_a_picture_with_another_ones_name(page: Any, classifier: Classifier, few: DatasetSplits) -> None:
    kept = io.BytesIO()
    Image.fromarray(few.test.images[7, 0]).save(kept, "WEBP", lossless=True)
    saw(page, lambda: page.set_input_files("#file", files=[{"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": kept.getvalue()}]))
    assert shown(page, "#verdict") == verdict(classifier, few.test.images[7, 0])


def test_what_is_no_picture_is_refused_in_words(page: Any, complaints: list[str]) -> None:
    before = shown(page, "#verdict")
    with page.expect_response(lambda response: "explain" in response.url) as answer:
        page.set_input_files("#file", files=[{"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture at all"}])
    assert 400 <= answer.value.status < 500
    page.wait_for_function("() => document.querySelector('#trouble').textContent")
    assert "could not use this picture" in shown(page, "#trouble")
    assert shown(page, "#verdict") == before
    assert "Failed to load resource" in complaints.pop()  # the browser's own word for an answer of 4xx


def refuse_as_a_proxy(status: int) -> Callable[[Any], None]:
    return lambda route: route.fulfill(status=status, body="<html></html>", content_type="text/html")


@pytest.mark.parametrize(("status", "told"), [(413, "could not use this picture: HTTP 413"), (502, "does not answer")])
def test_what_a_proxy_in_front_refuses(status: int, told: str, page: Any, complaints: list[str]) -> None:
    page.route("**/v1/explain*", refuse_as_a_proxy(status))
    page.get_by_role("button", name="sample: Bag").click()
    playwright.expect(page.locator("#trouble")).to_contain_text(told)
    page.unroute("**/v1/explain*")
    saw(page, page.get_by_role("button", name="sample: Bag").click)
    playwright.expect(page.locator("#trouble")).to_be_empty()
    only_what_failed_to_load(complaints)


def test_what_the_browser_cannot_read_is_no_fault_of_the_servers(page: Any) -> None:
    page.evaluate("() => { Blob.prototype.arrayBuffer = () => Promise.reject(new DOMException('a folder', 'NotFoundError')); }")
    drop(page, b"")
    playwright.expect(page.locator("#trouble")).to_contain_text("no picture file")


def test_a_fault_of_the_page_is_not_laid_on_the_server(page: Any, complaints: list[str]) -> None:
    page.evaluate("() => { document.querySelector('#verdict').remove(); }")
    with page.expect_event("pageerror"):
        page.get_by_role("button", name="sample: Bag").click()
    assert shown(page, "#trouble") == ""
    complaints.clear()


def test_a_visitor_who_is_quicker_than_the_samples_keeps_the_picture(
    visit: Callable[..., Any], address: str, classifier: Classifier, few: DatasetSplits
) -> None:
    held: list[Any] = []
    page = visit(address, ready="#stage", hold="**/v1/samples", held=held)
    playwright.expect(page.locator("#seen")).not_to_be_empty()
    page.locator("#stage").press("ArrowLeft")  # there is nothing to point at yet
    picture = few.test.images[7, 0]
    saw(page, lambda: drop(page, png(picture)))
    while not held:
        page.wait_for_timeout(10)
    held[0].continue_()
    playwright.expect(page.locator("#samples button")).to_have_count(10)
    page.wait_for_timeout(300)  # nothing else is asked
    assert shown(page, "#verdict") == verdict(classifier, picture)


def only_what_failed_to_load(complaints: list[str]) -> None:
    """Of answers that a test takes away the browser complains; there must be no other complaint."""
    assert all("Failed to load resource" in each for each in complaints), complaints
    complaints.clear()


def test_a_network_that_did_not_come_is_asked_for_again(
    visit: Callable[..., Any], address: str, classifier: Classifier, few: DatasetSplits, complaints: list[str]
) -> None:
    expect, held = playwright.expect, []
    page = visit(address, ready="#stage", hold="**/v1/model", held=held)
    while not held:
        page.wait_for_timeout(10)
    page.route("**/v1/model", lambda route: route.abort())
    held[0].abort()
    expect(page.locator("#trouble")).to_contain_text("does not answer")
    saw(page, lambda: drop(page, png(few.test.images[7, 0])))
    assert shown(page, "#verdict") == verdict(classifier, few.test.images[7, 0])
    assert "does not answer" in shown(page, "#trouble")  # for the layers are missing
    page.unroute("**/v1/model")
    page.route("**/v1/explain*", lambda route: route.abort())
    drop(page, png(few.test.images[8, 0]))
    expect(page.locator("#trouble")).to_contain_text("does not answer")
    expect(page.locator("#pixel-place")).to_contain_text("Pixel (14, 14)")  # of the picture before
    expect(page.locator("#samples button")).to_have_count(10)
    assert page.locator("button.layer").count() == 9
    page.unroute("**/v1/explain*")
    saw(page, lambda: drop(page, png(few.test.images[8, 0])))
    expect(page.locator("#trouble")).to_be_empty()
    only_what_failed_to_load(complaints)


def test_a_blank_canvas_asks_for_the_network_again(visit: Callable[..., Any], address: str, complaints: list[str]) -> None:
    held: list[Any] = []
    page = visit(address, ready="#stage", hold="**/v1/model", held=held)
    while not held:
        page.wait_for_timeout(10)
    held[0].abort()
    page.unroute("**/v1/model")
    playwright.expect(page.locator("#trouble")).to_contain_text("does not answer")
    saw(page, page.get_by_role("button", name="Blank canvas").click)
    assert page.locator("button.layer").count() == 9
    only_what_failed_to_load(complaints)


def test_a_visitor_who_is_quicker_than_the_network_sees_its_layers(
    visit: Callable[..., Any], address: str, classifier: Classifier, few: DatasetSplits
) -> None:
    held: list[Any] = []
    page = visit(address, ready="#stage", hold="**/v1/model", held=held)
    while not held:
        page.wait_for_timeout(10)
    drop(page, png(few.test.images[7, 0]))
    page.wait_for_timeout(500)  # long enough for the picture's answer to come first, if it were asked for already
    saw(page, held[0].continue_)
    assert shown(page, "#verdict") == verdict(classifier, few.test.images[7, 0])
    assert page.locator("button.layer").count() == 9
    assert "Pixel (14, 14)" in shown(page, "#pixel-place")


def test_another_classifier_behind_an_open_page(
    page: Any, address: str, classifier: Classifier, service: Callable[..., Any], few: DatasetSplits
) -> None:
    torch.manual_seed(0)
    blocks = (BlockConfig(channels=(4,), kernel_size=3, padding=1),)
    config = NiNConfig(blocks=blocks, class_block=ClassBlockConfig(), in_channels=3, num_classes=3, mlp_layers=0, image_size=20)
    preprocessing = Preprocessing(channels=3, height=20, width=20, mean=(0.5,) * 3, std=(0.25,) * 3)
    other = Classifier(NiN(config), preprocessing, ["cat", "dog", "owl"], metadata={"name": "nin_other"}, device="cpu")
    expect, picture = playwright.expect, np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    page.locator(".class-row button.map").nth(1).click()
    page.locator("#stage").press("ArrowLeft")
    with service(other) as client:

        def elsewhere(route: Any) -> None:
            asked = route.request
            headers = {"content-type": asked.headers.get("content-type", "")}
            told = client.request(asked.method, asked.url.removeprefix(address), content=asked.post_data_buffer, headers=headers)
            route.fulfill(status=told.status_code, headers=dict(told.headers), body=told.content)

        page.route("**/v1/**", elsewhere)
        drop(page, png(picture))
        expect(page.locator("#who")).to_contain_text("nin_other")
        expect(page.locator("#verdict")).to_have_text(verdict(other, picture))
        expect(page.locator("#pixel-place")).to_contain_text("Pixel (10, 10)")
        expect(page.locator("#seen")).to_contain_text("20 × 20 pixels, in colour")
        expect(page.locator("#samples-part")).to_be_hidden()
        assert page.locator("button.layer").count() == 2
        assert page.locator(".vector .bar-names").last.inner_text().split() == ["cat", "dog", "owl"]
        assert page.locator(".class-row [aria-pressed=true]").count() == 0
        page.unroute("**/v1/**")
    page.get_by_text("Erase", exact=True).click()
    page.locator("#stage").press("Space")
    expect(page.locator("#who")).to_contain_text("nin_test")
    expect(page.locator("#pixel-place")).to_contain_text("Pixel (14, 14)")
    expect(page.locator("#samples button")).to_have_count(10)
    assert page.locator("button.layer").count() == 9
    assert shown(page, "#verdict").split(",")[0] in classifier.class_names
    saw(page, lambda: drop(page, png(few.test.images[7, 0])))
    assert shown(page, "#verdict") == verdict(classifier, few.test.images[7, 0])


def test_pictures_to_begin_with_that_did_not_come_are_asked_for_again(
    visit: Callable[..., Any], address: str, complaints: list[str]
) -> None:
    held: list[Any] = []
    page = visit(address, ready="#stage", hold="**/v1/samples", held=held)
    while not held:
        page.wait_for_timeout(10)
    page.route("**/v1/samples", lambda route: route.abort())
    held[0].abort()
    playwright.expect(page.locator("#verdict")).not_to_be_empty()  # of a blank canvas
    assert page.locator("#samples button").count() == 0
    page.unroute("**/v1/samples")
    saw(page, page.get_by_role("button", name="Blank canvas").click)
    playwright.expect(page.locator("#samples button")).to_have_count(10)
    only_what_failed_to_load(complaints)


def test_a_value_is_the_same_beside_its_map_and_among_its_layers(
    visit: Callable[..., Any], service: Callable[..., Any], few: DatasetSplits
) -> None:
    wide = network()
    with torch.no_grad():
        list(wide.class_block)[-1].weight.mul_(100.0)
    classifier = Classifier(wide, Preprocessing.of(few.train), few.class_names, device="cpu")
    with service(classifier) as client:
        page = visit(str(client.base_url))
        saw(page, lambda: drop(page, png(few.test.images[7, 0])))
        page.get_by_role("button", name="Show all 10 classes").click()
        beside = {
            row.get_attribute("data-class"): row.locator(".here").inner_text().split()[-1] for row in page.locator(".class-row").all()[1:]
        }
        bars = page.locator(".vector").last
        bars.locator("canvas").focus()
        page.keyboard.press("Home")
        among = {}
        for _ in few.class_names:
            name, value = bars.locator(".largest").inner_text().split(": ")
            among[name] = value
            page.keyboard.press("ArrowRight")
        assert among == beside
        page.context.close()


def test_what_is_refused_leaves_no_answer_of_another_picture(page: Any, complaints: list[str]) -> None:
    expect = playwright.expect
    _, before = saw(page, page.get_by_role("button", name="sample: Bag").click)
    page.locator(".class-row button.map").first.click()
    page.route("**/v1/explain*", lambda route: route.fulfill(status=503, json={"error": "busy"}))
    page.get_by_role("button", name="Blank canvas").click()
    expect(page.locator("#trouble")).to_have_text("The server could not use this picture: busy")
    for part in ("#verdict", "#pixel-place", "#classes", ".vector .largest >> nth=0", ".rest >> nth=0"):
        expect(page.locator(part)).to_be_empty()
    for canvas in ("button.layer canvas", ".vector canvas"):
        assert not drawn(page.locator(canvas).first).any()
    pixels = drawn(page.locator("#stage")).astype(int)
    assert (abs(pixels[..., 0] - pixels[..., 2]) < 20).all()  # no class map lies over the canvas
    page.locator("button.layer").first.click()
    assert not page.get_by_role("dialog").is_visible()
    page.get_by_role("button", name="中文").click()
    expect(page.locator("#trouble")).to_have_text("服务器无法使用这张图片：busy")
    page.get_by_role("button", name="English").click()
    page.unroute("**/v1/explain*")
    _, after = saw(page, page.get_by_role("button", name="sample: Bag").click)
    assert after["logits"] == before["logits"]
    expect(page.locator("#trouble")).to_be_empty()
    assert drawn(page.locator("button.layer canvas").first).any()
    only_what_failed_to_load(complaints)


def test_an_answer_of_the_picture_before_is_not_shown(page: Any, complaints: list[str]) -> None:
    saw(page, page.get_by_role("button", name="sample: Bag").click)
    before, held = shown(page, "#verdict"), []
    page.get_by_text("Erase", exact=True).click()
    page.route("**/v1/explain*", lambda route: held.append(route))
    page.locator("#stage").press("Space")
    page.get_by_role("button", name="Blank canvas").click()
    for number in range(2):
        while len(held) == number:
            page.wait_for_timeout(10)
        if number == 0:
            held[0].continue_()
    assert shown(page, "#verdict") == before  # the wiped bag's came to nothing
    held[1].abort()
    playwright.expect(page.locator("#verdict")).to_be_empty()
    only_what_failed_to_load(complaints)


def test_drawing_on_a_blank_canvas(page: Any, classifier: Classifier) -> None:
    _, blank = saw(page, page.get_by_role("button", name="Blank canvas").click)
    assert page.get_by_label("Draw").is_checked()
    box = page.locator("#stage").bounding_box()

    def draw() -> None:
        page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.8 * box["height"], steps=6)
        page.mouse.up()

    sent, drawn = saw(page, draw)
    picture = np.array(Image.open(io.BytesIO(sent)).convert("L"))
    assert picture.shape == (28, 28)
    assert picture[0, 0] == 0
    assert picture.max() == 255
    assert shown(page, "#verdict") == verdict(classifier, picture)
    assert drawn["logits"] != blank["logits"]


def test_ink_on_a_grey_networks_canvas_is_grey(page: Any) -> None:
    saw(page, page.get_by_role("button", name="Blank canvas").click)
    page.locator("#ink").fill("#ff0000")
    sent, _ = saw(page, page.locator("#stage").click)
    red, green, blue = np.array(Image.open(io.BytesIO(sent)).convert("RGB")).max((0, 1)).tolist()
    assert red == green == blue == pytest.approx(76, abs=2)  # of red the network sees the luma


def test_a_blank_canvas_is_black_or_white(visit: Callable[..., Any], service: Callable[..., Any], classifier: Classifier) -> None:
    """Also for photos that have more red than blue, on either side of the middle."""
    colour = NiN(NiNConfig(**{**vars(classifier.config), "in_channels": 3}))
    for mean, ground in (((0.545, 0.443, 0.343), 0), ((0.67, 0.52, 0.43), 255)):
        preprocessing = Preprocessing(channels=3, height=28, width=28, mean=mean, std=(0.25,) * 3)
        with service(Classifier(colour, preprocessing, classifier.class_names, device="cpu")) as client:
            page = visit(str(client.base_url))
            sent, _ = saw(page, page.get_by_role("button", name="Blank canvas").click)
            assert np.array(Image.open(io.BytesIO(sent)).convert("RGB"))[0, 0].tolist() == [ground] * 3
            assert page.locator("#ink").input_value() == ("#000000" if ground else "#ffffff")
            page.context.close()


def test_wiping_changes_maps_and_scores_while_it_goes_on(page: Any, classifier: Classifier) -> None:
    _, whole = saw(page, page.get_by_role("button", name="sample: Pullover").click)
    before = shown(page, ".class-row.best .mean b")
    map_before = drawn(page.locator(".class-row.best canvas"))
    page.get_by_text("Erase", exact=True).click()
    box = page.locator("#stage").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def wipe() -> None:
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 80, middle[1], steps=4)

    saw(page, wipe, settled=False)  # the button is still held down
    playwright.expect(page.locator(".class-row.best .mean b")).not_to_have_text(before)
    assert not np.array_equal(drawn(page.locator(".class-row[data-class] canvas").first), map_before)
    sent, wiped = saw(page, page.mouse.up)
    assert shown(page, ".class-row.best .mean b") != before
    assert shown(page, "#verdict") == verdict(classifier, np.array(Image.open(io.BytesIO(sent)).convert("L")))
    _, restored = saw(page, page.get_by_role("button", name="Restore").click)
    assert restored["logits"] == pytest.approx(whole["logits"], abs=1e-5)
    assert wiped["logits"] != pytest.approx(whole["logits"], abs=1e-2)


def test_wiping_by_keyboard(page: Any) -> None:
    _, whole = saw(page, page.get_by_role("button", name="sample: Pullover").click)
    page.get_by_label("Look").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_label("Erase").is_checked()
    page.locator("#stage").focus()
    page.keyboard.press("ArrowUp")
    _, wiped = saw(page, lambda: page.keyboard.press("Space"))
    assert wiped["logits"] != whole["logits"]


def test_a_stroke_by_keyboard_ends_where_the_focus_goes_elsewhere(page: Any) -> None:
    saw(page, page.get_by_role("button", name="sample: Pullover").click)
    page.get_by_text("Erase", exact=True).click()
    page.locator("#stage").focus()
    saw(page, lambda: page.keyboard.down("Space"), settled=False)
    saw(page, page.locator("#blank").focus)  # settled, though the key is still held down
    page.keyboard.up("Space")


def test_a_key_that_is_held_to_draw_does_not_scroll_the_page(page: Any) -> None:
    page.evaluate("() => { window.kept = []; document.addEventListener('keydown', event => kept.push(event.defaultPrevented)); }")
    page.get_by_text("Draw", exact=True).click()
    page.locator("#stage").focus()
    for key in ("Space", "Enter"):
        for _ in range(3):
            page.keyboard.down(key)
        page.keyboard.up(key)
    assert page.evaluate("kept") == [True] * 6


def test_two_fingers_draw_no_line_between_them(visit: Callable[..., Any], address: str) -> None:
    page = visit(address, touch=True)
    saw(page, page.get_by_role("button", name="Blank canvas").click)
    box = page.locator("#stage").bounding_box()
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, **places: tuple[float, float]) -> None:
        points = [
            {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "id": int(name[-1])} for name, (x, y) in places.items()
        ]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def draw() -> None:
        touch("touchStart", finger1=(0.1, 0.1))
        touch("touchStart", finger1=(0.1, 0.1), finger2=(0.9, 0.9))
        touch("touchMove", finger1=(0.1, 0.3), finger2=(0.9, 0.7))
        touch("touchEnd", finger2=(0.9, 0.7))  # the one that is let go
        touch("touchMove", finger1=(0.1, 0.5))
        touch("touchEnd")

    sent, _ = saw(page, draw)
    picture = np.array(Image.open(io.BytesIO(sent)).convert("L"))
    assert (picture[[3, 8, 13], 2] > 200).all()  # the first finger's line, to its end
    assert not picture[:, 6:].any()


def test_the_network_is_drawn_with_shapes_and_parameters(page: Any, classifier: Classifier) -> None:
    assert "then 1×1 convolutions" in shown(page, "#network-help")
    assert "an MLP, with the same weights at every pixel" in shown(page, "#pixel-help")
    rows = summarize(classifier.network, (1, 1, 28, 28)).rows
    convolutions = [row for row in rows if row.layer.startswith("conv")]
    layers = page.locator("button.layer")
    assert layers.count() == len(convolutions) == 9
    for layer, row in zip(layers.all(), convolutions, strict=True):
        text = layer.inner_text()
        assert " × ".join(map(str, row.output_shape[1:])) in text
        assert f"{row.num_parameters:,} parameters" in text
        assert drawn(layer.locator("canvas")).any()
    assert "of 130 channels" in layers.nth(3).inner_text()
    assert page.locator(".parts li.block").count() == 3
    assert "Max pooling 3×3, step 2: 8 × 6 × 6" in shown(page, "#parts")
    assert "Global average pooling" in shown(page, "#parts")


def test_layers_that_wait_for_their_maps_are_no_higher_than_with_them(visit: Callable[..., Any], address: str) -> None:
    held: list[Any] = []
    page = visit(address, ready="button.layer", hold="**/v1/explain*", held=held)
    while not held:
        page.wait_for_timeout(10)

    def heights() -> list[float]:
        return [strip.bounding_box()["height"] for strip in page.locator(".strip").all()]

    waiting = heights()
    held[0].continue_()
    page.wait_for_selector("body.ready", state="attached")
    assert max(waiting) <= max(heights())


def test_a_layer_large_and_page_by_page(page: Any, classifier: Classifier) -> None:
    saw(page, page.get_by_role("button", name="sample: Coat").click)
    opener = page.locator("button.layer").nth(3)
    opener.press("Enter")
    dialog = page.get_by_role("dialog")
    assert "130 × 6 × 6" in dialog.inner_text()
    assert "Block 2" in dialog.inner_text()
    tiles = dialog.locator(".tile")
    while dialog.get_by_role("button", name="Previous").is_enabled():
        dialog.get_by_role("button", name="Previous").click()
    assert tiles.count() == 60
    dialog.get_by_role("button", name="Next").click()
    dialog.get_by_role("button", name="Next").click()
    assert "121 to 130 of 130" in dialog.inner_text()
    assert tiles.count() == 10
    tiles.nth(4).click()
    maps = block_maps(classifier.network, classifier.preprocessing, torch.tensor(sample(classifier, "Coat"))[None])[1].layers[0][1][124]
    facts = [number(each) for each in re.findall(r"[-−]?\d+\.\d+", shown(page, "#channel-facts"))]
    assert facts[:3] == pytest.approx([float(maps.min()), float(maps.mean()), float(maps.max())], abs=0.006)
    page.locator("#channel").focus()
    for _ in range(7):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    assert "row 1," in shown(page, "#channel-facts")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert opener.evaluate("element => element === document.activeElement")


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_the_mlp_at_a_pixel(by: str, page: Any, classifier: Classifier) -> None:
    saw(page, page.get_by_role("button", name="sample: Shirt").click)
    stage = page.locator("#stage")
    if by == "mouse":
        box = stage.bounding_box()
        page.mouse.move(box["x"] + 20.5 / 28 * box["width"], box["y"] + 9.5 / 28 * box["height"])
        x, y = 20, 9
    else:
        stage.focus()
        for key in (*["ArrowLeft"] * 5, *["ArrowUp"] * 2, "Shift+ArrowDown"):
            page.keyboard.press(key)
        x, y = 14 - 5, 14 - 2 + 2
    for block, vectors in enumerate(classifier.pixel_vectors(sample(classifier, "Shirt"), x, y)):
        page.get_by_role("button", name=f"Block {block + 1}", exact=True).click()
        assert f"Pixel ({x}, {y}) lies in row {vectors.row}, column {vectors.column} of" in shown(page, "#pixel-place")
        told = page.locator(".vector")
        assert told.count() == 3  # the spatial convolution and two 1x1
        for element, (_, values) in zip(told.all(), vectors.layers, strict=True):
            assert f"{len(values)} channels" in element.inner_text()
            largest = [number(each) for each in re.findall(r"[-−]?\d+\.\d+", element.locator(".largest").inner_text())]
            assert largest == pytest.approx(values.sort(descending=True).values[:3].tolist(), abs=0.006)
    last = page.locator(".vector").last.locator("canvas")
    best = int(classifier.pixel_vectors(sample(classifier, "Shirt"), x, y)[-1].layers[-1][1].argmax())
    assert classifier.class_names[best] in page.locator(".vector").last.inner_text()
    last.scroll_into_view_if_needed()
    box = last.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 3.5 / 10, box["y"] + 20)
    assert page.locator(".vector").last.locator(".largest").inner_text().startswith("Dress: ")  # the fourth class
    page.mouse.move(0, 0)
    last.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".vector").last.locator(".largest").inner_text().startswith("Bag: ")  # the last but one
    assert "Bag" in last.get_attribute("aria-valuetext")


def test_by_finger(visit: Callable[..., Any], address: str) -> None:
    page = visit(address, width=360, height=740, touch=True)
    touched = "stage => getComputedStyle(stage).touchAction"
    assert page.locator("#stage").evaluate(touched) == "pan-y"  # a swipe over the picture scrolls the page
    page.get_by_text("Erase", exact=True).click()
    assert page.locator("#stage").evaluate(touched) == "none"
    page.locator(".vector canvas").last.tap(position={"x": 100, "y": 40})
    assert re.match("[A-Z].*: ", page.locator(".vector .largest").last.inner_text())
    page.locator("button.layer").nth(3).tap()
    page.locator("#channel").tap(position={"x": 5, "y": 5})
    assert "row 0, column 0:" in shown(page, "#channel-facts")


def test_the_language_switch(page: Any, visit: Callable[..., Any], address: str) -> None:
    assert page.get_by_role("heading", name="The MLP at a pixel").is_visible()
    page.get_by_role("button", name="中文").click()
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.get_by_role("heading", name="像素处的 MLP").is_visible()
    assert "个参数" in shown(page, "#who")
    english = re.compile(r"\b(the|of|and|show|picture|layer)\b", re.IGNORECASE)
    assert not english.search(shown(page, "body"))
    page.reload()
    page.wait_for_selector("body.ready")
    assert page.get_by_role("heading", name="像素处的 MLP").is_visible()
    assert visit(address, language="zh-CN").locator("html").get_attribute("lang") == "zh-CN"


def test_light_and_dark(page: Any) -> None:
    ground = "() => getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)[0]"
    assert page.evaluate(ground) > 200
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(ground) < 60
    page.get_by_role("button", name="Auto").click()
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) < 60


def test_in_colours_that_the_system_forces_nothing_vanishes(page: Any) -> None:
    page.emulate_media(forced_colors="active")
    page.locator("#pixel").scroll_into_view_if_needed()
    pixels = np.array(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")).astype(int)
    top, ground = page.evaluate("scrollY"), pixels[2, 2]

    def coloured(x: float, y: float, width: float, height: float) -> float:
        """The share of pixels that are not the ground."""
        part = pixels[int(y + top) : int(y + top + height), int(x) : int(x + width)]
        return float((abs(part - ground).sum(-1) > 60).mean())

    for bar in (".class-row.best .softmax .bar", ".class-row.best .mean .bar"):
        assert coloured(**page.locator(bar).bounding_box()) > 0.8, bar
    step = page.locator(".parts > li + li").first.bounding_box()
    assert coloured(step["x"] + 20, step["y"], 10, 10) > 0  # the line from the block above
    for segments in ("[data-theme-choice]", ".tools label"):
        assert coloured(**page.locator(segments).nth(0).bounding_box()) > 0.6  # what is chosen
        assert coloured(**page.locator(segments).nth(1).bounding_box()) < 0.4
    head = page.locator(".class-row.head .map").bounding_box()
    assert coloured(head["x"], head["y"], 2, 10) == 0  # no border, for it is no button


def test_on_paper_nothing_vanishes(page: Any) -> None:
    page.get_by_role("button", name="Dark").click()
    page.emulate_media(media="print")
    style = "([selector, name]) => getComputedStyle(document.querySelector(selector)).getPropertyValue(name)"
    assert page.evaluate(style, ["#verdict", "color"]) == "rgb(29, 30, 32)"  # on white
    for bar in (".softmax .bar", ".mean .bar"):  # else browsers leave out what is only a ground
        assert page.evaluate(style, [bar, "print-color-adjust"]) == "exact", bar
    page.set_viewport_size({"width": 1100, "height": 500})
    assert page.locator("#picture").evaluate("part => part.scrollHeight <= part.clientHeight")


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_a_narrow_screen_does_not_scroll_sideways(language: str, visit: Callable[..., Any], address: str) -> None:
    page = visit(address, width=360, height=740, language=language)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("button.layer").nth(3).click()
    assert page.locator("#layer").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_nor_does_it_where_a_name_has_no_end(visit: Callable[..., Any], service: Callable[..., Any], few: DatasetSplits) -> None:
    names = [f"{'n02123045_tabby_cat' * 4}_{number}" for number in range(10)]
    classifier = Classifier(network(), Preprocessing.of(few.train), names, metadata={"name": "run" * 30}, device="cpu")
    with service(classifier) as client:
        page = visit(str(client.base_url), width=360, height=740)
        assert names[0][:9] in shown(page, "#verdict") + shown(page, "#classes")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.locator("button.layer").last.click()
        assert page.locator("#layer").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
        page.context.close()


PLACES = """(line, texts) => texts.map((text) => {
    const words = document.createTreeWalker(line, NodeFilter.SHOW_TEXT).nextNode();
    const [range, start] = [document.createRange(), words.data.indexOf(text)];
    range.setStart(words, start);
    range.setEnd(words, start + text.length);
    const { left, right } = range.getBoundingClientRect();
    return [left, right];
})"""


def test_what_is_said_of_an_arabic_name_stands_behind_it(
    visit: Callable[..., Any], service: Callable[..., Any], few: DatasetSplits
) -> None:
    names = [f"قطة {letter}" for letter in "ابتثجحخدذر"]
    classifier = Classifier(network(), Preprocessing.of(few.train), names, metadata={"name": "قطط", "data": {"name": "صور"}}, device="cpu")
    with service(classifier) as client:
        page = visit(str(client.base_url))
        largest = page.locator(".vector .largest").last
        figures = re.findall(r"−?[0-9]+\.[0-9]+", largest.inner_text())
        said = re.findall(r"قطة .", largest.inner_text())
        lines = [
            (page.locator("#verdict"), [names[0][:3], shown(page, "#verdict").split()[-2][:4]]),
            (page.locator("#who"), ["قطط", "parameters", "صور"]),
            (largest, [text for pair in zip(said, figures, strict=True) for text in pair]),
        ]
        for line, texts in lines:
            places = line.evaluate(PLACES, texts)
            assert all(before[1] <= after[0] for before, after in pairwise(places)), (texts, places)
        page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_axe_finds_no_serious_fault(language: str, scheme: str, visit: Callable[..., Any], address: str) -> None:
    page = visit(address, language=language, scheme=scheme)
    page.locator("input[value=erase]").check(force=True)
    assert faults(page) == []
    page.locator("button.layer").first.click()
    assert faults(page) == []


def faults(page: Any) -> list[str]:
    """What axe calls serious or critical."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def test_any_other_classifier(visit: Callable[..., Any], service: Callable[..., Any]) -> None:
    """Colour, a fully connected head, a hundred classes, no size of the published ones, no samples."""
    torch.manual_seed(0)
    config = NiNConfig(
        blocks=(BlockConfig(channels=(4,), kernel_size=3),),
        class_block=ClassBlockConfig(),
        in_channels=3,
        num_classes=100,
        image_size=20,
        mlp_layers=0,
        head="fc",
    )
    preprocessing = Preprocessing(channels=3, height=20, width=20, mean=(0.5,) * 3, std=(0.25,) * 3)
    names = [f"class {number}" for number in range(100)]
    classifier = Classifier(NiN(config), preprocessing, names, device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    with service(classifier) as client:
        page = visit(str(client.base_url))
        assert not page.locator("#samples-part").is_visible()
        saw(page, lambda: page.set_input_files("#file", files=[{"name": "a.png", "mimeType": "image/png", "buffer": png(picture)}]))
        assert shown(page, "#verdict") == verdict(classifier, picture)
        assert "no class maps" in shown(page, "#answer-help")
        assert page.locator(".class-row button.map:visible").count() == 0
        page.get_by_role("button", name="Show all 100 classes").click()
        assert page.locator(".class-row[data-class]").count() == 100
        assert "20 × 20 pixels, in colour" in shown(page, "#seen")
        assert page.locator(".vector").count() == 1  # no 1x1 convolution, no MLP
        assert "none of 1×1" in shown(page, "#network-help")
        assert "no MLP at a pixel" in shown(page, "#pixel-help")
        assert "Channel " in shown(page, ".vector .largest")  # a fully connected layer follows, so no channel is a class's
        assert page.locator(".vector .bar-names").inner_text() == ""
        page.locator("button.layer").last.click()
        assert page.locator(".tile").first.inner_text() == "1"
        page.context.close()


def test_of_many_classes_only_the_maps_in_sight_are_drawn(
    visit: Callable[..., Any], service: Callable[..., Any], few: DatasetSplits
) -> None:
    config = NiNConfig(**{**vars(network().config), "num_classes": 400})
    names = [f"class {number}" for number in range(400)]
    classifier = Classifier(NiN(config), Preprocessing.of(few.train), names, device="cpu")
    with service(classifier) as client:
        page = visit(str(client.base_url))
        page.evaluate("""() => { window.drawn = new Set(); window.grey = 0;
            const draw = CanvasRenderingContext2D.prototype.drawImage;
            CanvasRenderingContext2D.prototype.drawImage = function (...given) {
                if (this.canvas.closest(".class-row")) drawn.add(this.canvas);
                if (this.filter !== "none") grey += 1;
                return draw.apply(this, given);
            }; }""")

        def counted(act: Callable[[], Any]) -> tuple[int, int]:
            page.evaluate("() => { drawn.clear(); grey = 0; }")
            act()
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            return tuple(page.evaluate("[drawn.size, grey]"))

        maps, _ = counted(page.get_by_role("button", name="Show all 400 classes").click)
        assert 0 < maps < 40
        rows = page.locator(".class-row[data-class]")
        assert rows.count() == 400
        assert not drawn(rows.nth(200).locator("canvas")).any()
        maps, _ = counted(rows.first.locator("button.map").click)
        assert maps < 40  # what the click scrolled into sight
        picture = few.test.images[7, 0]
        maps, grey = counted(lambda: saw(page, lambda: drop(page, png(picture))))
        assert 0 < maps < 40
        assert grey <= 6  # of the rows one; the large picture has its own, drawn anew with what changes on it
        rows.nth(200).scroll_into_view_if_needed()
        page.wait_for_function("() => drawn.has(document.querySelectorAll('.class-row[data-class] canvas')[200])")
        assert drawn(rows.nth(200).locator("canvas")).any()
        page.context.close()


def test_maps_of_more_values_than_a_call_takes_arguments(visit: Callable[..., Any], service: Callable[..., Any]) -> None:
    blocks = (BlockConfig(channels=(2,), kernel_size=3, padding=1, pool=False),)
    last = ClassBlockConfig()
    config = NiNConfig(blocks=blocks, class_block=last, in_channels=1, num_classes=3, mlp_layers=0, image_size=480)
    preprocessing = Preprocessing(channels=1, height=480, width=480, mean=(0.5,), std=(0.25,))
    classifier = Classifier(NiN(config), preprocessing, ["cat", "dog", "owl"], device="cpu")
    with service(classifier) as client:
        page = visit(str(client.base_url))
        page.locator("button.layer").first.click()
        assert "2 × 480 × 480" in shown(page, "#layer-facts")
        page.get_by_label("Each channel on its own colour scale").check()
        playwright.expect(page.locator(".tile")).to_have_count(2)
        page.context.close()


def test_what_a_value_sees_is_that_of_the_whole_block_and_no_more_than_the_picture(
    visit: Callable[..., Any], service: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    blocks = (BlockConfig(channels=(4, 4), kernel_size=3, padding=1, pool=False), BlockConfig(channels=(4, 4), kernel_size=5, padding=2))
    config = NiNConfig(
        blocks=blocks,
        class_block=ClassBlockConfig(hidden=(4,)),
        in_channels=1,
        num_classes=3,
        mlp_layers=1,
        mlp_kernel_size=3,
        image_size=20,
    )
    preprocessing = Preprocessing(channels=1, height=9, width=14, mean=(0.5,), std=(0.25,))
    classifier = Classifier(NiN(config), preprocessing, ["cat", "dog", "owl"], device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (9, 14), dtype=np.uint8)
    maps = block_maps(classifier.network, preprocessing, torch.tensor(picture)[None])
    assert [block.grid.sees for block in maps] == [5, 11, 21]
    with service(classifier) as client:
        page = visit(str(client.base_url))
        for block, said in enumerate(("5 × 5", "11 × 9", "14 × 9")):
            page.get_by_role("button", name=f"Block {block + 1}", exact=True).click()
            assert f"each value there sees {said} pixels" in shown(page, "#pixel-place")
        page.locator("button.layer").last.click()
        assert "one value sees 14 × 9 pixels" in shown(page, "#layer-facts")
        page.context.close()


def test_a_service_that_wants_a_token(browser: Any, classifier: Classifier, service: Callable[..., Any]) -> None:
    with service(classifier, ServiceSettings(access=Access(token="open sesame"))) as client:
        context = browser.new_context(locale="en-US")
        page = context.new_page()
        page.goto(str(client.base_url))
        alert = page.locator("#token-part [role=alert]")
        page.get_by_label("This server wants its token").fill("open barley")
        assert not alert.is_visible()
        page.keyboard.press("Enter")
        playwright.expect(alert).to_contain_text("That is not its token")
        page.get_by_label("This server wants its token").fill("open sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector("body.ready")
        playwright.expect(alert).to_be_empty()
        assert not page.get_by_label("This server wants its token").is_visible()
        assert shown(page, "#verdict") == verdict(classifier, sample(classifier, "Ankle boot"))
        other = context.browser.new_context(locale="en-US").new_page()
        other.goto(f"{client.base_url}/#token=open%20sesame")
        other.wait_for_selector("body.ready")
        assert "sesame" not in other.url
        other.context.close()
        context.close()


def test_a_picture_that_was_brought_before_the_token_is_answered_after_it(
    visit: Callable[..., Any], classifier: Classifier, service: Callable[..., Any], few: DatasetSplits, complaints: list[str]
) -> None:
    picture = few.test.images[7, 0]
    with service(classifier, ServiceSettings(access=Access(token="open sesame"))) as client:
        page = visit(str(client.base_url), ready="#token-part:not([hidden])")
        with page.expect_response(lambda response: "explain" in response.url):
            drop(page, png(picture))
        page.get_by_label("This server wants its token").fill("open sesame")
        saw(page, lambda: page.keyboard.press("Enter"))
        assert shown(page, "#verdict") == verdict(classifier, picture)
        page.context.close()
    complaints.clear()  # the browser's own word for answers of 401


class Held(Silent):
    """Holds a training at the end of each epoch until it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def end_epoch(self, row: Mapping[str, Any], num_epochs: int) -> None:
        assert self.go_on.wait(600)


def test_a_training_is_watched(visit: Callable[..., Any], tiny: NiNConfig, few_file: Path, tmp_path: Path) -> None:
    expect, held = playwright.expect, Held()
    with watched(0) as (watcher, address):
        page = visit(address, ready="#training-title")
        expect(page.locator("#state")).to_have_text("The training is about to begin")
        recipe = Recipe(num_epochs=2, batch_size=32, lr=0.1)
        options = {"out": tmp_path / "my run", "name": "tiny", "watcher": Both(watcher, held), "quiet": True, "validation": 0.1}
        training = threading.Thread(target=train, args=(tiny, str(few_file), recipe), kwargs=options)
        training.start()
        try:
            expect(page.locator("#state")).to_have_text("50\u00a0% done · epoch 1 of 2")
            row = watcher.state()["rows"][0]
            expect(page.locator("#loss")).to_have_text(f"{row['train_loss']:.3f}")
            expect(page.locator("#accuracy")).to_have_text(f"{100 * row['train_accuracy']:.1f}\u00a0%")
            expect(page.locator("#rate")).to_have_text(f"{row['images_per_second']:,.0f}")
            expect(page.locator("#left")).to_have_text(re.compile(r"\d+:\d\d"))
            expect(page.locator("#dead")).to_have_text("0 / 10")
            expect(page.locator("#table-body tr")).to_have_count(1)
            assert drawn(page.locator("#loss-chart")).any()
            watcher.step(1, 2.0, 0.1, 100.0, ["Bag", "Coat"])
            expect(page.locator("#dead")).to_have_text("2 / 10")
            expect(page.locator("#dead-text")).to_contain_text("2 of 10 class maps are dead (zero for every picture): Bag, Coat")
            assert faults(page) == []
            page.get_by_role("button", name="中文").click()
            page.get_by_role("button", name="深色").click()
            expect(page.locator("#dead-text")).to_contain_text("Bag、Coat")
            page.set_viewport_size({"width": 360, "height": 740})
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            assert faults(page) == []
            page.get_by_role("button", name="English").click()
        finally:
            held.go_on.set()
            training.join(60)
    # The server is gone; the page has had the last word and does not complain.
    expect(page.locator("#state")).to_have_text(f"Done: test accuracy {100 * Run(tmp_path / 'my run').result['test_accuracy']:.2f}\u00a0%")
    expect(page.locator("#command")).to_have_text(f"nin serve '{tmp_path / 'my run'}'")
    expect(page.locator("#table-body tr")).to_have_count(2)
    expect(page.locator("#lost")).to_be_empty()


def test_a_training_that_was_stopped_is_watched_again_where_it_goes_on(visit: Callable[..., Any], complaints: list[str]) -> None:
    state = "#state"
    with watched(0) as (watcher, address):
        page = visit(address, ready="#training-title")
        watcher.begin_epoch(1, 4, 0, 10)
        playwright.expect(page.locator(state)).to_have_text("0\u00a0% done · epoch 1 of 4")
        watcher.note("stopped at step 5 of 40")
    playwright.expect(page.locator(state)).to_have_text("The training stopped: stopped at step 5 of 40")
    with watched(int(address.rstrip("/").rpartition(":")[2])) as (watcher, _):
        watcher.begin_epoch(2, 4, 5, 10)
        playwright.expect(page.locator(state)).to_have_text("38\u00a0% done · epoch 2 of 4")
        playwright.expect(page.locator("#lost")).to_be_empty()
        page.context.close()
    only_what_failed_to_load(complaints)
