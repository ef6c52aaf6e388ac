// The MLP at a pixel: the channels of one block at one place, after each of its layers, as bars.

import { element } from "./elements.js";
import { ink, sharp } from "./colours.js";
import { hasMlp, layerText, partText } from "./network.js";
import { count, figure, say, whole } from "./words.js";

const HEIGHT = 76;

export class Pixel {
  /** `changed()` is called when another block is chosen. */
  constructor({ changed }) {
    this.changed = changed;
    this.buttons = document.getElementById("pixel-blocks");
    this.root = document.getElementById("vectors");
    this.rows = [];
    new ResizeObserver(() => this.show()).observe(this.root);
  }

  describe(network) {
    this.network = network;
    this.parts = network.parts.filter((part) => part.kind === "block");
    this.block = Math.min(this.block ?? Infinity, this.parts.length - 1);
    this.build();
  }

  build() {
    if (!this.network) return;
    document.getElementById("pixel-help").textContent = say(hasMlp(this.network) ? "pixel_help" : "pixel_help_plain");
    this.buttons.replaceChildren(
      ...this.parts.map((part, index) => {
        const button = element("button", "", partText(part));
        button.type = "button";
        button.setAttribute("aria-pressed", String(index === this.block));
        button.addEventListener("click", () => {
          this.block = index;
          this.buttons.querySelectorAll("button").forEach((each, at) => each.setAttribute("aria-pressed", String(at === index)));
          this.#layers();
          this.changed();
        });
        return button;
      }),
    );
    this.#layers();
    this.show();
  }

  take(blocks) {
    this.blocks = blocks;
  }

  clear() {
    this.blocks = null;
    document.getElementById("pixel-place").textContent = "";
    if (this.network) this.#layers();
  }

  /** Move to a pixel; returns the patch of the picture that a value there sees. */
  move(pixel) {
    this.pixel = pixel;
    this.show();
    const { grid } = this.blocks[this.block];
    const [row, column] = [grid.nearest(0, pixel.y), grid.nearest(1, pixel.x)];
    return { x: grid.centre + column * grid.stride, y: grid.centre + row * grid.stride, side: this.#sees };
  }

  /** Side of the patch that a value of the block sees, its last layer's: the others may be 1x1 convolutions, or not. */
  get #sees() {
    return this.parts[this.block].layers.at(-1).sees;
  }

  #layers() {
    const { layers } = this.parts[this.block];
    this.rows = [];
    const items = [];
    layers.forEach((layer, index) => {
      if (index > 0) {
        const extra = layer.with.map((kind) => say(kind)).join(say("comma")) || say("every_pixel");
        const step = layer.mlp ? say("vector_step", { from: count(layers[index - 1].shape[0]), to: count(layer.shape[0]), extra }) : extra;
        items.push(element("p", "vector-step quiet", `↓ ${step}`));
      }
      const figureElement = element("figure", "vector");
      const caption = element("figcaption");
      const title = element("b", "", say("vector_after", { layer: layerText(layer) }));
      const note = element("span", "quiet");
      caption.append(title, note);
      const canvas = element("canvas");
      // A slider over the channels: what the pointer names, the arrow keys name too.
      canvas.setAttribute("role", "slider");
      canvas.tabIndex = 0;
      canvas.setAttribute("aria-valuemin", 1);
      canvas.setAttribute("aria-valuemax", layer.shape[0]);
      const told = element("p", "hint largest");
      for (const kind of ["pointerdown", "pointermove"]) {
        canvas.addEventListener(kind, (event) => {
          const { left, width } = canvas.getBoundingClientRect();
          this.#name(index, Math.max(0, Math.min(layer.shape[0] - 1, Math.floor(((event.clientX - left) / width) * layer.shape[0]))));
        });
      }
      canvas.addEventListener("pointerleave", (event) => {
        if (event.pointerType !== "touch") this.#name(index, null); // a finger leaves as it is lifted
      });
      canvas.addEventListener("blur", () => this.#name(index, null));
      canvas.addEventListener("keydown", (event) => {
        const [now, last] = [this.rows[index].named ?? -1, layer.shape[0] - 1];
        const to = { ArrowLeft: now - 1, ArrowRight: now + 1, ArrowDown: now - 1, ArrowUp: now + 1, Home: 0, End: last }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        this.#name(index, Math.max(0, Math.min(last, to)));
      });
      const names = element("div", "bar-names");
      names.setAttribute("aria-hidden", "true");
      for (const name of this.#names(index, layers.length) ?? []) names.append(element("span", "", name));
      figureElement.append(caption, canvas, names, told);
      items.push(figureElement);
      this.rows.push({ canvas, note, told, layer, named: null });
    });
    this.root.replaceChildren(...items);
  }

  /** The names of a layer's channels where they have any: the last ones are the class maps, unless a fully connected layer follows. */
  #names(index, length = this.rows.length) {
    const last = this.block === this.parts.length - 1 && index === length - 1;
    return last && this.network.head === "gap" ? this.network.class_names : null;
  }

  #name(index, channel) {
    this.rows[index].named = channel;
    this.show();
  }

  show() {
    if (!this.blocks || !this.pixel || !this.rows.length) return;
    const { grid, layers } = this.blocks[this.block];
    const [row, column] = [grid.nearest(0, this.pixel.y), grid.nearest(1, this.pixel.x)];
    document.getElementById("pixel-place").textContent = say("pixel_place", {
      x: this.pixel.x,
      y: this.pixel.y,
      row,
      column,
      rows: grid.size[0],
      columns: grid.size[1],
      ...grid.seen(this.#sees),
    });
    this.rows.forEach(({ canvas, note, told, layer, named }, index) => {
      const values = layers[index].vector(row, column);
      const names = this.#names(index);
      const label = (channel) => (names ? whole(names[channel]) : say("channel", { number: channel + 1 }));
      note.textContent = say("channels", { count: count(values.length) });
      canvas.setAttribute("aria-label", say("vector_label", { layer: layerText(layer), count: values.length }));
      this.#bars(canvas, values, layers[index], named);
      if (named !== null) {
        told.textContent = `${label(named)}: ${figure(values[named])}`;
      } else {
        const best = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, 3);
        told.textContent = say("largest", { list: best.map((channel) => `${label(channel)} ${figure(values[channel])}`).join(" · ") });
      }
      canvas.setAttribute("aria-valuenow", (named ?? 0) + 1);
      canvas.setAttribute("aria-valuetext", told.textContent);
    });
  }

  #bars(canvas, values, maps, named) {
    const width = canvas.clientWidth;
    if (!width) return;
    canvas.style.height = `${HEIGHT}px`;
    const context = sharp(canvas, width, HEIGHT);
    const [low, high] = [Math.min(0, maps.low), Math.max(0, maps.high)];
    const place = (value) => HEIGHT - 1 - ((value - low) / (high - low || 1)) * (HEIGHT - 2);
    const step = width / values.length;
    canvas.parentElement.classList.toggle("named", step > 52);
    const gap = step > 6 ? 2 : step > 3 ? 1 : 0;
    const [up, down, mark] = [ink("positive"), ink("negative"), ink("mark")];
    values.forEach((value, channel) => {
      context.fillStyle = channel === named ? mark : value < 0 ? down : up;
      const [from, to] = [place(0), place(value)];
      context.fillRect(channel * step, Math.min(from, to), Math.max(step - gap, 0.75), Math.max(Math.abs(to - from), channel === named ? 2 : 0));
    });
    context.fillStyle = ink("rule");
    context.fillRect(0, place(0), width, 1);
  }
}
