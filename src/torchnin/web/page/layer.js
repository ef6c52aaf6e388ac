// One layer, large: every channel page by page, one of them big.

import { element } from "./elements.js";
import { asCanvas, coloured, scaleOf, sharp } from "./colours.js";
import { range } from "./maps.js";
import { layerText, partText, shapeText } from "./network.js";
import { count, figure, say } from "./words.js";

const A_PAGE = 60;

export class Layer {
  /** `pointed({x, y})` is called when a place of the big map is pointed at, with the pixel of the picture that lies there. */
  constructor({ pointed }) {
    this.pointed = pointed;
    this.dialog = document.getElementById("layer");
    this.canvas = document.getElementById("channel");
    this.own = document.getElementById("own-scale");
    this.own.addEventListener("change", () => this.show());
    document.getElementById("layer-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
    document.getElementById("previous").addEventListener("click", () => this.#turn(-1));
    document.getElementById("next").addEventListener("click", () => this.#turn(1));
    for (const kind of ["pointerdown", "pointermove"]) {
      this.canvas.addEventListener(kind, (event) => {
        const { left, top, width, height } = this.canvas.getBoundingClientRect();
        this.#place(((event.clientY - top) / height) * this.maps.rows, ((event.clientX - left) / width) * this.maps.columns);
      });
    }
    this.canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      if (!moves[event.key]) return;
      event.preventDefault();
      this.#place(this.row + moves[event.key][0], this.column + moves[event.key][1]);
    });
    new ResizeObserver(() => this.#big()).observe(this.canvas);
  }

  /** Show a layer of a described part; `grid` says where its places lie in the picture. */
  open(part, described, maps, grid, names, pixel) {
    Object.assign(this, { part, described, names });
    this.take(maps, grid, pixel);
    this.channel = maps.strongest();
    this.page = Math.floor(this.channel / A_PAGE);
    this.dialog.showModal();
    this.show();
  }

  /** The same layer of another picture, or at another pixel. */
  take(maps, grid, pixel) {
    Object.assign(this, { maps, grid });
    [this.row, this.column] = [grid.nearest(0, pixel.y), grid.nearest(1, pixel.x)];
  }

  show() {
    if (!this.dialog.open) return;
    const { described, maps } = this;
    document.getElementById("layer-title").textContent = `${partText(this.part)}: ${layerText(described)}`;
    document.getElementById("layer-facts").textContent = say("layer_facts", {
      shape: shapeText(described.shape),
      parameters: count(described.num_parameters),
      ...this.grid.seen(described.sees),
    });
    const first = this.page * A_PAGE;
    const shown = Math.min(A_PAGE, maps.channels - first);
    document.getElementById("pages").hidden = maps.channels <= A_PAGE;
    document.getElementById("page-text").textContent = say("page_of", { first: first + 1, last: first + shown, count: maps.channels });
    document.getElementById("previous").disabled = this.page === 0;
    document.getElementById("next").disabled = first + shown === maps.channels;
    const items = [];
    for (let index = first; index < first + shown; index++) {
      const button = element("button", "tile");
      button.type = "button";
      const tile = asCanvas(coloured(maps.channel(index), maps.columns, maps.rows, this.#scale(index)));
      tile.setAttribute("role", "presentation");
      button.append(tile, element("span", "", this.#name(index)));
      button.setAttribute("aria-label", this.#label(index));
      button.setAttribute("aria-pressed", String(index === this.channel));
      button.addEventListener("click", () => {
        this.channel = index;
        for (const other of items) other.firstChild.setAttribute("aria-pressed", String(other.firstChild === button));
        this.#big();
      });
      const item = element("li");
      item.append(button);
      items.push(item);
    }
    document.getElementById("tiles").replaceChildren(...items);
    this.#big();
  }

  #name(index) {
    return this.names ? this.names[index] : String(index + 1);
  }

  #label(index) {
    return this.names ? this.names[index] : say("channel", { number: index + 1 });
  }

  #scale(index) {
    if (!this.own.checked) return scaleOf(this.maps.low, this.maps.high);
    return scaleOf(...range(this.maps.channel(index)));
  }

  #turn(by) {
    this.page += by;
    this.channel = this.page * A_PAGE;
    this.show();
    // The button that was pressed may be spent; then the other takes the focus.
    const [pressed, other] = by < 0 ? ["previous", "next"] : ["next", "previous"];
    if (document.getElementById(pressed).disabled) document.getElementById(other).focus();
  }

  #place(row, column) {
    this.row = Math.max(0, Math.min(this.maps.rows - 1, Math.floor(row)));
    this.column = Math.max(0, Math.min(this.maps.columns - 1, Math.floor(column)));
    this.pointed({ x: this.grid.pixel(1, this.column), y: this.grid.pixel(0, this.row) });
    this.#big();
  }

  #big() {
    if (!this.dialog.open) return;
    const { maps, canvas } = this;
    canvas.style.setProperty("--shape", maps.columns / maps.rows);
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    const values = maps.channel(this.channel);
    const context = sharp(canvas, width, height);
    context.imageSmoothingEnabled = false;
    context.drawImage(asCanvas(coloured(values, maps.columns, maps.rows, this.#scale(this.channel))), 0, 0, width, height);
    const [wide, high] = [width / maps.columns, height / maps.rows];
    for (const [colour, thick] of [["rgb(0 0 0 / 0.85)", 3.5], ["#fff", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = thick;
      context.strokeRect(this.column * wide + 1, this.row * high + 1, wide - 2, high - 2);
    }
    document.getElementById("channel-title").textContent = this.#label(this.channel);
    const [low, highest] = range(values);
    document.getElementById("channel-facts").textContent = say("channel_facts", {
      low: figure(low),
      mean: figure(values.reduce((sum, value) => sum + value, 0) / values.length),
      high: figure(highest),
      row: this.row,
      column: this.column,
      value: figure(values[this.row * maps.columns + this.column]),
    });
  }
}
