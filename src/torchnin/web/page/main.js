// The page: a picture goes in, and everything that the network makes of it is shown.

import { Answer } from "./answer.js";
import { switches } from "./chrome.js";
import { element } from "./elements.js";
import { Layer } from "./layer.js";
import { Grid, Maps, unpacked } from "./maps.js";
import { Network } from "./network.js";
import { Pixel } from "./pixel.js";
import { Explainer, Refused, Silent, Unknown, Unreadable, keepToken, network as askNetwork, samples as askSamples } from "./service.js";
import { Stage, greyOf, inkOn } from "./stage.js";
import { count, onLanguage, percent, say, whole } from "./words.js";

const get = (id) => document.getElementById(id);
let network = null;
let blocks = null;
let overlaid = null;
let opened = null;
let newest = 0; // of the pictures that were chosen, the blank canvas among them
let meeting = null; // the question for the network, while it is under way
let unanswered = false; // whether the stage shows what no answer has come for
let sampling = null; // the question for the pictures to begin with, while it is under way
let sampled = false; // whether it was answered
let troubled = null; // what went wrong, to be said in another language too

const stage = new Stage(get("stage"), { moved: look, painted });
const answer = new Answer({ chosen: overlay });
const layers = new Network({ opened: open });
const pixel = new Pixel({ changed: () => look(stage.pixel) });
const layer = new Layer({ pointed: (at) => stage.point(at.x, at.y) });
const explainer = new Explainer({ answered, failed: unexplained });

function answered(told, { fresh, settled, number }, picture) {
  if (number !== newest) return; // another was chosen meanwhile, and its answer follows
  if (network && told.model !== network.model) {
    renew(picture);
    return;
  }
  if (network) trouble(); // else it is why there is none
  if (settled) unanswered = false;
  const [, height, width] = told.picture.shape;
  if (fresh || !stage.fits(width, height)) stage.load(unpacked(told.picture));
  answer.take(told, stage.pixels, settled);
  if (told.blocks) {
    blocks = told.blocks.map((block) => ({ grid: new Grid(block.grid), layers: block.layers.map((each) => new Maps(each)) }));
    if (told.class_maps) blocks.at(-1).layers.splice(-1, 1, new Maps(told.class_maps)); // the same values, not rounded to codes
    layers.take(blocks);
    pixel.take(blocks);
  }
  overlay(overlaid);
  look(stage.pixel);
  if (opened && told.blocks) {
    layer.take(blocks[opened.block].layers[opened.index], blocks[opened.block].grid, stage.pixel);
    layer.show();
  }
  get("restore").disabled = !stage.changed;
  document.body.classList.add("ready");
  if (settled && network && !sampled && !sampling) offer(); // what failed may be over
}

/** Another classifier answers than the one that is shown: its description is asked for, then the same picture again. */
async function renew(picture) {
  const number = ++newest;
  if (!meeting) enter();
  const met = await meeting.then(() => true, () => false); // whoever asked says what was wrong
  if (met && number === newest) explainer.ask(picture, { layers: true, about: { fresh: true, settled: true, number } });
}

function unexplained(error) {
  if (unanswered) clear();
  failed(error);
}

/** Take away what was said of another picture than the one on the stage. */
function clear() {
  blocks = null;
  stage.patch = null;
  for (const part of [answer, layers, pixel]) part.clear();
  get("layer").close();
  overlay(overlaid);
}

function failed(error) {
  if (error instanceof Unknown) {
    get("token-part").hidden = false;
    get("token-trouble").textContent = error.given ? say("token_wrong") : "";
    get("token").focus();
  } else if (error instanceof Refused) {
    trouble("trouble", { reason: error.message });
  } else if (error instanceof Unreadable) {
    trouble("no_file");
  } else if (error instanceof Silent) {
    trouble("trouble_server");
  } else {
    reportError(error); // a fault of the page, not of the server
  }
}

function trouble(key = null, values = {}) {
  troubled = { key, values };
  get("trouble").textContent = key ? say(key, values) : "";
}

/** A new picture: its file goes to the server as it is. */
async function take(file) {
  const number = ++newest;
  await known();
  if (number === newest) explainer.ask(async () => file, { layers: true, about: { fresh: true, settled: true, number } });
}

/** The picture was changed here. */
function painted(settled, instead = false) {
  get("restore").disabled = !stage.changed;
  unanswered = true;
  explainer.ask(() => stage.file(), { layers: settled, about: { fresh: false, settled, instead, number: newest } });
}

function look(at) {
  if (!network || !blocks) return;
  stage.patch = pixel.move(at);
  answer.point(at);
  stage.draw();
}

function overlay(index) {
  overlaid = index;
  stage.overlay = index === null || !answer.maps ? null : answer.overlay(index);
  stage.draw();
}

function open(block, index) {
  if (!network || !blocks) return;
  opened = { block, index };
  const parts = network.parts.filter((part) => part.kind === "block");
  const last = block === parts.length - 1 && index === parts[block].layers.length - 1;
  const names = last && network.head === "gap" ? network.class_names : null; // before a fully connected layer a channel is no class's
  layer.open(parts[block], parts[block].layers[index], blocks[block].layers[index], blocks[block].grid, names, stage.pixel);
}

async function blank() {
  const number = ++newest;
  if (!(await known()) || number !== newest) return;
  const { height, width, mean } = network.input;
  stage.clear(width, height, mean);
  stage.colour = inkOn(mean);
  get("ink").value = stage.colour;
  document.querySelector("input[name=tool][value=draw]").click();
  painted(true, true);
}

function describe() {
  if (!network) return;
  const facts = [network.name, say("parameters", { count: count(network.num_parameters) }), network.data];
  if (network.test_accuracy !== null) facts.push(say("test_accuracy", { percent: percent(network.test_accuracy) }));
  get("who").textContent = facts.filter(Boolean).map(whole).join(" · ");
  const { channels, height, width } = network.input;
  get("seen").textContent = say("seen", { width, height, colours: say(channels === 1 ? "seen_grey" : "seen_colour") });
  get("stage").setAttribute("aria-label", say("stage_label", { width, height }));
  get("stage-help").textContent = say(`stage_${stage.tool}`);
}

function wire() {
  for (const radio of document.querySelectorAll("input[name=tool]")) {
    radio.addEventListener("change", () => {
      stage.tool = radio.value;
      get("stage").dataset.tool = radio.value;
      get("brush").hidden = radio.value === "look";
      get("ink-label").hidden = radio.value !== "draw";
      get("stage-help").textContent = say(`stage_${stage.tool}`);
      stage.draw();
    });
  }
  get("size").addEventListener("input", () => {
    stage.brush = Number(get("size").value) / 100;
    stage.draw();
  });
  get("ink").addEventListener("input", () => {
    stage.colour = network?.input.channels === 1 ? greyOf(get("ink").value) : get("ink").value; // what is drawn is what is seen
  });
  get("restore").addEventListener("click", () => {
    stage.restore();
    painted(true);
    get("stage").focus();
  });
  get("blank").addEventListener("click", blank);
  get("file").addEventListener("change", () => {
    if (get("file").files.length) take(get("file").files[0]);
    get("file").value = "";
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (file) take(file);
  });
  let inside = 0;
  document.addEventListener("dragenter", (event) => {
    event.preventDefault();
    inside += 1;
    get("drop-here").hidden = false;
  });
  document.addEventListener("dragleave", () => {
    inside -= 1;
    get("drop-here").hidden = inside === 0;
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    get("drop-here").hidden = true;
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
    else trouble("no_file");
  });
  get("token-part").addEventListener("submit", (event) => {
    event.preventDefault();
    keepToken(get("token").value);
    enter();
  });
  get("layer").addEventListener("close", () => {
    opened = null;
  });
}

/** Show the pictures to begin with, and give them; none where they do not come, and then the next answer has them asked for again. */
async function offer() {
  sampling = askSamples().catch(() => null);
  const told = await sampling;
  sampling = null;
  sampled = told !== null;
  return show(told?.samples ?? []);
}

function show(samples) {
  get("samples-part").hidden = !samples.length;
  const files = samples.map(({ picture }) => {
    const bytes = Uint8Array.from(atob(picture.split(",")[1]), (letter) => letter.charCodeAt(0));
    return new Blob([bytes], { type: "image/png" });
  });
  get("samples").replaceChildren(
    ...samples.map(({ label, picture }, index) => {
      const button = element("button");
      button.type = "button";
      button.dataset.sample = label;
      const image = element("img");
      image.src = picture;
      image.alt = "";
      button.append(image);
      button.setAttribute("aria-label", say("sample", { name: label }));
      button.title = label;
      button.addEventListener("click", () => take(files[index]));
      const item = element("li");
      item.append(button);
      return item;
    }),
  );
  return files;
}

function relanguage() {
  if (troubled) trouble(troubled.key, troubled.values);
  if (get("token-trouble").textContent) get("token-trouble").textContent = say("token_wrong");
  describe();
  answer.show();
  layers.build();
  pixel.build();
  layer.show();
  for (const button of document.querySelectorAll("[data-sample]")) {
    button.setAttribute("aria-label", say("sample", { name: button.dataset.sample }));
  }
}

async function meet() {
  const told = await askNetwork();
  if (network && network.model !== told.model) {
    overlaid = answer.selected = null;
    sampled = false;
    clear();
  }
  network = told;
  describe();
  layers.describe(network);
  pixel.describe(network);
  stage.colour = inkOn(network.input.mean);
  get("ink").value = stage.colour;
  look(stage.pixel); // a picture may have been answered before
}

/** Whether the network is known; where it did not come, it is asked for again. */
async function known() {
  if (network) return true;
  if (!meeting) enter();
  await meeting.catch(() => {}); // whoever asked says what was wrong
  return network !== null;
}

async function enter() {
  get("token-trouble").textContent = ""; // so that the same words again are told again
  try {
    meeting = meet().finally(() => {
      meeting = null;
    });
    await meeting;
    get("token-part").hidden = true;
    const files = await offer();
    if (newest > 0) explainer.again(); // a visitor was quicker, or had a picture before the server wanted its token
    else if (files.length) take(files.at(-1));
    else blank();
  } catch (error) {
    failed(error);
  }
}

// An address may end in the token; it is taken out of sight and of the history.
if (location.hash.startsWith("#token=")) {
  const given = location.hash.slice("#token=".length);
  try {
    keepToken(decodeURIComponent(given));
  } catch {
    keepToken(given);
  }
  history.replaceState(null, "", location.pathname);
}
onLanguage(relanguage);
switches({ recoloured: () => pixel.show() });
wire();
enter();
