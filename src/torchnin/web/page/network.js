// The network drawn as its blocks, every layer with its feature maps as small multiples.

import { element } from "./elements.js";
import { asCanvas, coloured, scaleOf, sharp } from "./colours.js";
import { count, say } from "./words.js";

const TILE = 38; // a small map with its gap, in CSS pixels
const MOST_ROWS = 2;

export const shapeText = (shape) => shape.map(count).join(" × ");

/** A layer's name: `3×3 convolution, norm, ReLU`. */
export function layerText(layer) {
  const kernel = layer.layer.split(" ").at(-1).split("/")[0].replace("x", "×");
  return [say("conv", { kernel }), ...layer.with.map((kind) => say(kind))].join(say("comma"));
}

/** Whether there is a 1×1 convolution in any of its blocks: without, nothing is an MLP at a pixel. */
export const hasMlp = (network) => network.parts.some((part) => part.layers.some((layer) => layer.mlp));

export const partText = (part) => say("block", { number: part.name.split(" ").at(-1) });

export class Network {
  /** `opened(block, layer)` is called when a layer is to be shown large; both count from 0. */
  constructor({ opened }) {
    this.opened = opened;
    this.root = document.getElementById("parts");
    this.strips = [];
    new ResizeObserver(() => this.draw()).observe(this.root);
  }

  describe(network) {
    this.network = network;
    this.build();
  }

  build() {
    const { network } = this;
    if (!network) return;
    document.getElementById("network-help").textContent = say(hasMlp(network) ? "network_help" : "network_help_plain", {
      parameters: count(network.num_parameters),
      macs: count(network.num_macs),
    });
    this.strips = [];
    const items = [];
    let block = 0;
    for (const part of network.parts) {
      if (part.kind === "block") items.push(this.#block(part, block++));
      else items.push(this.#step(part));
    }
    items.push(element("li", "step", say("softmax_part")));
    this.root.replaceChildren(...items);
    this.draw();
  }

  /** Take the maps of every layer of every block. */
  take(blocks) {
    this.blocks = blocks;
    this.draw();
  }

  #block(part, block) {
    const item = element("li", "block");
    const head = element("div", "block-head");
    head.append(element("h3", "", partText(part)), element("span", "quiet", say("parameters", { count: count(part.num_parameters) })));
    item.append(head);
    part.layers.forEach((layer, index) => {
      const button = element("button", "layer");
      button.type = "button";
      const facts = element("span", "layer-facts");
      facts.append(element("b", "", layerText(layer)), element("span", "shape", shapeText(layer.shape)));
      facts.append(element("span", "quiet", say("parameters", { count: count(layer.num_parameters) })));
      if (layer.mlp) facts.append(element("span", "chip", say("every_pixel")));
      const canvas = element("canvas", "strip");
      const rest = element("span", "quiet rest");
      button.append(facts, canvas, rest);
      button.setAttribute("aria-label", say("layer_open", { layer: layerText(layer), part: partText(part), shape: shapeText(layer.shape) }));
      button.addEventListener("click", () => this.opened(block, index));
      item.append(button);
      this.strips.push({ canvas, rest, block, layer: index, shape: layer.shape });
    });
    return item;
  }

  #step(part) {
    const [layer] = part.layers;
    const item = element("li", "step");
    if (part.kind === "pool") {
      const [kind, , size] = layer.layer.split(" ");
      const [kernel, step = "1"] = size.split("/");
      item.textContent = say("pool", {
        kind: say(`pool_${kind}`),
        kernel: kernel.replace("x", "×"),
        step,
        shape: shapeText(layer.shape),
      });
    } else if (part.kind === "dropout") {
      item.textContent = say("dropout");
    } else {
      item.textContent = say(this.network.head === "gap" ? "gap" : "linear");
    }
    return item;
  }

  clear() {
    this.blocks = null;
    for (const { canvas, rest } of this.strips) {
      sharp(canvas, canvas.clientWidth, canvas.clientHeight);
      rest.textContent = "";
    }
  }

  draw() {
    if (!this.blocks) return;
    const width = this.strips[0]?.canvas.clientWidth ?? 0;
    if (!width) return;
    const across = Math.max(1, Math.floor((width + 2) / TILE));
    for (const { canvas, rest, block, layer, shape } of this.strips) {
      const maps = this.blocks[block].layers[layer];
      const shown = Math.min(maps.channels, across * MOST_ROWS);
      const side = TILE - 3;
      const shrink = side / Math.max(maps.rows, maps.columns);
      const [wide, high] = [maps.columns * shrink, maps.rows * shrink];
      const lines = Math.ceil(shown / across);
      canvas.style.height = `${lines * (high + 3)}px`;
      const context = sharp(canvas, width, lines * (high + 3));
      context.imageSmoothingEnabled = shrink < 1;
      const scale = scaleOf(maps.low, maps.high);
      for (let index = 0; index < shown; index++) {
        const tile = asCanvas(coloured(maps.channel(index), maps.columns, maps.rows, scale));
        context.drawImage(tile, (index % across) * TILE, Math.floor(index / across) * (high + 3), wide, high);
      }
      rest.textContent = shown < shape[0] ? say("first_of", { shown: count(shown), count: count(shape[0]) }) : "";
    }
  }
}
