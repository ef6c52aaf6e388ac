// The picture that the network sees: pointed at, wiped, drawn on, with a class map over it.

import { asCanvas, coloured, sharp } from "./colours.js";

export const MAP_OPACITY = 0.62;

export class Stage {
  /**
   * `moved(pixel)` is called when another pixel is pointed at, `painted(settled)` when pixels changed; settled when the stroke ended.
   */
  constructor(canvas, { moved, painted }) {
    Object.assign(this, { canvas, moved, painted });
    this.tool = "look";
    this.brush = 0.09;
    this.colour = "#ffffff";
    this.pixel = null; // the one pointed at; at first the middle
    this.overlay = null; // { values, scale } at the picture's resolution
    this.patch = null; // { x, y, side } of what a value sees, in pixels
    this.pixels = document.createElement("canvas");
    this.original = null;
    this.changed = false;
    this.stroke = null;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(kind, (event) => {
        if (this.stroke?.pointer === event.pointerId) this.#up();
      });
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("keyup", (event) => {
      if ((event.key === " " || event.key === "Enter") && this.stroke?.pointer === null) this.#up();
    });
    canvas.addEventListener("blur", () => this.#up()); // the key may be let go elsewhere
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Take the pixels `(channels, rows, columns)` that the network saw as the picture. */
  load({ values, shape: [channels, height, width] }) {
    const image = new ImageData(width, height);
    for (let at = 0; at < width * height; at++) {
      for (let channel = 0; channel < 3; channel++) image.data[4 * at + channel] = values[(channels === 3 ? channel * width * height : 0) + at];
      image.data[4 * at + 3] = 255;
    }
    if (!this.fits(width, height)) this.pixel = { x: width >> 1, y: height >> 1 };
    this.pixels = asCanvas(image);
    this.original = image;
    this.changed = false;
    this.canvas.style.setProperty("--shape", width / height);
    this.draw();
  }

  /** A black or a white canvas to draw on, for a network whose pictures have this size and mean (0 to 1 a channel). */
  clear(width, height, mean) {
    this.load({ values: new Uint8Array(width * height).fill(isDark(mean) ? 0 : 255), shape: [1, height, width] });
  }

  /** Whether the picture is of this size. */
  fits(width, height) {
    return this.original?.width === width && this.original.height === height;
  }

  restore() {
    this.pixels.getContext("2d").putImageData(this.original, 0, 0);
    this.changed = false;
    this.draw();
  }

  /** The picture as a file. */
  file() {
    return new Promise((done) => this.pixels.toBlob(done, "image/png"));
  }

  /** The colour around the picture, with which parts are wiped away: the median of its outermost pixels. */
  get background() {
    const { width, height, data } = this.original;
    const edge = [];
    for (let x = 0; x < width; x++) edge.push(x, (height - 1) * width + x);
    for (let y = 0; y < height; y++) edge.push(y * width, y * width + width - 1);
    const middle = [0, 1, 2].map((channel) => edge.map((at) => data[4 * at + channel]).sort((a, b) => a - b)[edge.length >> 1]);
    return `rgb(${middle.join(" ")})`;
  }

  point(x, y) {
    const { width, height } = this.pixels;
    this.pixel = { x: Math.max(0, Math.min(width - 1, x)), y: Math.max(0, Math.min(height - 1, y)) };
    this.moved(this.pixel);
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !this.original) return;
    const context = sharp(this.canvas, width, height);
    const unit = width / this.pixels.width;
    context.imageSmoothingEnabled = unit < 2;
    if (this.overlay) {
      const { values, scale } = this.overlay;
      const map = coloured(values, this.pixels.width, this.pixels.height, scale, MAP_OPACITY);
      drawGround(context, this.pixels, width, height);
      context.drawImage(asCanvas(map), 0, 0, width, height);
    } else {
      context.drawImage(this.pixels, 0, 0, width, height);
    }
    if (this.patch && this.tool === "look") {
      const { x, y, side } = this.patch;
      // What lies beyond the picture is padding; the frame stays in sight.
      const [left, top] = [x, y].map((middle) => Math.max(1.5, (middle - side / 2 + 0.5) * unit));
      const right = Math.min(width - 1.5, (x + side / 2 + 0.5) * unit);
      const bottom = Math.min(height - 1.5, (y + side / 2 + 0.5) * unit);
      this.#box(context, left, top, right - left, bottom - top, [5, 4]);
    }
    if (this.tool === "look") {
      const side = Math.max(unit, 5);
      this.#box(context, (this.pixel.x + 0.5) * unit - side / 2, (this.pixel.y + 0.5) * unit - side / 2, side, side, []);
    } else {
      context.beginPath();
      context.arc((this.pixel.x + 0.5) * unit, (this.pixel.y + 0.5) * unit, (this.#radius() * unit), 0, 2 * Math.PI);
      this.#line(context, []);
    }
  }

  #radius() {
    return Math.max(0.7, (this.brush * Math.max(this.pixels.width, this.pixels.height)) / 2);
  }

  #box(context, x, y, width, height, dash) {
    context.beginPath();
    context.rect(x, y, width, height);
    this.#line(context, dash);
  }

  /** A line that is seen on any picture: dark below light. */
  #line(context, dash) {
    for (const [colour, width] of [["rgb(0 0 0 / 0.85)", 3.5], ["#fff", 1.5]]) {
      context.setLineDash(dash);
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke();
    }
    context.setLineDash([]);
  }

  #at(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return { x: ((event.clientX - left) / width) * this.pixels.width, y: ((event.clientY - top) / height) * this.pixels.height };
  }

  #down(event) {
    if (!this.original || event.button !== 0 || this.stroke) return; // a second finger draws nothing
    const { x, y } = this.#at(event);
    if (this.tool !== "look") {
      this.canvas.setPointerCapture(event.pointerId);
      this.stroke = { x, y, pointer: event.pointerId };
      this.#paint({ x, y });
    }
    this.point(Math.floor(x), Math.floor(y));
  }

  #move(event) {
    if (!this.original || (this.stroke && this.stroke.pointer !== event.pointerId)) return;
    const { x, y } = this.#at(event);
    if (this.stroke) this.#paint({ x, y });
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (column !== this.pixel.x || row !== this.pixel.y) this.point(column, row);
  }

  #up() {
    if (!this.stroke) return;
    this.stroke = null;
    this.painted(true);
  }

  #paint(to) {
    const context = this.pixels.getContext("2d");
    context.strokeStyle = this.tool === "erase" ? this.background : this.colour;
    context.lineWidth = 2 * this.#radius();
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(this.stroke.x, this.stroke.y);
    context.lineTo(to.x + 0.001, to.y);
    context.stroke();
    Object.assign(this.stroke, to);
    this.changed = true;
    this.painted(false);
  }

  #key(event) {
    if (!this.original) return;
    const step = event.shiftKey ? Math.max(1, Math.round(this.pixels.width / 14)) : 1;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key]) {
      event.preventDefault();
      this.point(this.pixel.x + moves[event.key][0], this.pixel.y + moves[event.key][1]);
    } else if ((event.key === " " || event.key === "Enter") && this.tool !== "look") {
      event.preventDefault(); // of a key that is held too, or it scrolls the page
      if (event.repeat || this.stroke) return;
      const centre = { x: this.pixel.x + 0.5, y: this.pixel.y + 0.5 };
      this.stroke = { ...centre, pointer: null };
      this.#paint(centre);
      this.draw();
    }
  }
}

/** Draw a picture as the ground of a half transparent map: in grey, and only from middle grey to white, so that its dark parts
 * do not swallow the colours. */
export function drawGround(context, pixels, width, height) {
  context.filter = "grayscale(1)";
  context.drawImage(pixels, 0, 0, width, height);
  context.filter = "none";
  context.fillStyle = "rgb(255 255 255 / 0.44)";
  context.fillRect(0, 0, width, height);
}

const isDark = (mean) => mean.reduce((sum, level) => sum + level, 0) / mean.length < 0.5;

/** The colour of ink for pictures of this mean. */
export const inkOn = (mean) => (isDark(mean) ? "#ffffff" : "#000000");

/** A colour `#rrggbb` as a grey network sees it: its ITU-R 601 luma. */
export function greyOf(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const level = Math.round(0.299 * red + 0.587 * green + 0.114 * blue);
  return `rgb(${level} ${level} ${level})`;
}
