// The answer: of each class its map over the picture, the map's mean, and the softmax.

import { asCanvas, coloured, legend, scaleOf } from "./colours.js";
import { element } from "./elements.js";
import { Grid, unpacked } from "./maps.js";
import { MAP_OPACITY, drawGround } from "./stage.js";
import { figure, percent, say } from "./words.js";

const FEW = 5;
const THUMB = 96; // pixels of a row's map

export class Answer {
  /** `chosen(index)` is called when a class map is to lie over the large picture, null for none. */
  constructor({ chosen }) {
    this.chosen = chosen;
    this.told = null;
    this.order = [];
    this.all = false;
    this.selected = null;
    this.root = document.getElementById("classes");
    this.more = document.getElementById("more-classes");
    this.more.addEventListener("click", () => {
      this.all = !this.all;
      this.show();
    });
    this.inSight = new Set(); // rows; of many classes only their maps are drawn
    this.sight = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) this.inSight[isIntersecting ? "add" : "delete"](target);
        this.#drawMaps();
      },
      { rootMargin: "200px" },
    );
    addEventListener("beforeprint", () => this.#drawMaps({ all: true }));
  }

  /** Take an answer; `settled` lets the classes change places. */
  take(told, pixels, settled) {
    this.told = told;
    this.pixels = pixels;
    this.maps = told.class_maps && unpacked(told.class_maps);
    this.grid = told.grid && new Grid(told.grid);
    if (settled || this.order.length !== told.logits.length) {
      this.order = told.logits.map((_, index) => index).sort((a, b) => told.logits[b] - told.logits[a] || a - b);
    }
    if (this.maps) {
      let [low, high] = [0, 0];
      for (const value of this.maps.values) [low, high] = [Math.min(low, value), Math.max(high, value)];
      this.scale = scaleOf(low, high);
      this.ground = document.createElement("canvas");
      const shrink = THUMB / Math.max(pixels.width, pixels.height);
      for (const side of ["width", "height"]) this.ground[side] = Math.max(1, Math.round(pixels[side] * shrink));
      drawGround(this.ground.getContext("2d"), pixels, this.ground.width, this.ground.height);
    }
    this.show();
  }

  clear() {
    this.told = this.maps = this.grid = null;
    document.getElementById("verdict").textContent = "";
    document.getElementById("legend").hidden = true;
    this.more.hidden = true;
    this.head?.remove();
    while (this.rows?.length) this.#remove(this.rows.pop());
    this.head = null;
  }

  /** The values of a class's map at its own resolution. */
  map(index) {
    const size = this.maps.shape[1] * this.maps.shape[2];
    return this.maps.values.subarray(index * size, (index + 1) * size);
  }

  /** A class's map over the picture: `{ values, scale }` at the picture's resolution. */
  overlay(index) {
    const { width, height } = this.pixels;
    return { values: this.grid.upsample(this.map(index), width, height), scale: this.scale };
  }

  /** Say of each class what its map holds at a pixel of the picture. */
  point({ x, y }) {
    this.pixel = { x, y };
    if (!this.maps) return;
    const at = this.grid.nearest(0, y) * this.maps.shape[2] + this.grid.nearest(1, x);
    for (const { here, index } of this.rows) here.textContent = say("here", { value: figure(this.map(index)[at]) });
  }

  show() {
    const { told } = this;
    if (!told) return;
    const best = told.class_names.indexOf(told.label);
    document.getElementById("verdict").textContent = say("verdict", { name: told.label, percent: percent(told.probability) });
    document.getElementById("answer-help").textContent = say(this.maps ? "answer_help" : "answer_help_fc");
    const shown = this.all ? this.order : this.order.slice(0, FEW);
    if (!shown.includes(best)) shown[shown.length - 1] = best;
    this.more.hidden = this.order.length <= FEW;
    this.more.textContent = this.all ? say("classes_few") : say("classes_all", { count: this.order.length });
    const element = document.getElementById("legend");
    element.hidden = !this.maps;
    if (this.maps) legend(element, this.scale, figure);

    const [low, high] = [Math.min(0, ...told.logits), Math.max(0, ...told.logits)];
    const place = (value) => (value - low) / (high - low || 1);
    this.#rows(shown.length);
    this.root.classList.toggle("without-maps", !this.maps);
    shown.forEach((index, row) => {
      const parts = this.rows[row];
      const name = told.class_names[index];
      parts.row.classList.toggle("best", index === best);
      parts.row.dataset.class = name;
      if (parts.told !== told || parts.index !== index) Object.assign(parts, { told, index, drawn: false });
      parts.name.textContent = name;
      parts.meanKey.textContent = say(this.maps ? "key_mean" : "column_logit");
      parts.softmaxKey.textContent = say("column_softmax");
      parts.mean.textContent = figure(told.logits[index]);
      parts.softmax.textContent = percent(told.probabilities[index]);
      const [zero, end] = [place(0), place(told.logits[index])];
      parts.meanBar.style.insetInlineStart = `${100 * Math.min(zero, end)}%`;
      parts.meanBar.style.width = `${100 * Math.abs(end - zero)}%`;
      parts.meanBar.classList.toggle("negative", end < zero);
      parts.zero.style.insetInlineStart = `${100 * zero}%`;
      parts.softmaxBar.style.width = `${100 * told.probabilities[index]}%`;
      parts.map.hidden = !this.maps;
      if (this.maps) {
        if (!parts.drawn) [parts.canvas.width, parts.canvas.height] = [this.ground.width, this.ground.height]; // which empties it
        parts.map.setAttribute("aria-label", say("on_picture", { name }));
        parts.map.setAttribute("aria-pressed", String(this.selected === index));
        parts.map.onclick = () => {
          this.selected = this.selected === index ? null : index;
          this.chosen(this.selected);
          this.show();
        };
      }
    });
    this.#drawMaps();
    if (this.pixel) this.point(this.pixel);
    for (const [key, column] of [["column_map", 0], [this.maps ? "column_mean" : "column_logit", 2], ["column_softmax", 3]]) {
      this.head.children[column].textContent = say(key);
    }
  }

  /** Draw the maps of the first rows, and of those in sight, unless they are drawn. */
  #drawMaps({ all = false } = {}) {
    if (!this.told || !this.maps) return;
    const { width, height } = this.ground;
    this.rows.forEach((parts, place) => {
      if (parts.drawn || !(all || place < FEW || this.inSight.has(parts.row))) return;
      const context = parts.canvas.getContext("2d");
      context.drawImage(this.ground, 0, 0);
      context.drawImage(asCanvas(coloured(this.grid.upsample(this.map(parts.index), width, height), width, height, this.scale, MAP_OPACITY)), 0, 0);
      parts.drawn = true;
    });
  }

  #remove({ row }) {
    this.sight.unobserve(row);
    this.inSight.delete(row);
    row.remove();
  }

  /** As many rows as are shown; those that stand are kept, so that a focused one stays focused. */
  #rows(count) {
    if (!this.head) {
      this.head = element("div", "class-row head");
      for (const part of ["map", "name", "mean", "softmax"]) this.head.append(element("span", part));
      this.root.append(this.head);
      this.rows = [];
    }
    while (this.rows.length > count) this.#remove(this.rows.pop());
    while (this.rows.length < count) {
      const row = element("div", "class-row");
      const map = element("button", "map");
      map.type = "button";
      const canvas = element("canvas");
      map.append(canvas);
      const nameCell = element("span", "name");
      const name = element("b");
      const here = element("span", "here");
      nameCell.append(name, here);
      const meanCell = element("span", "mean");
      const meanKey = element("span", "key");
      const softmaxKey = element("span", "key");
      const mean = element("b");
      const meanTrack = element("span", "track");
      const meanBar = element("span", "bar");
      const zero = element("span", "zero");
      meanTrack.append(meanBar, zero);
      meanCell.append(meanKey, mean, meanTrack);
      const softmaxCell = element("span", "softmax");
      const softmax = element("b");
      const softmaxTrack = element("span", "track");
      const softmaxBar = element("span", "bar");
      softmaxTrack.append(softmaxBar);
      softmaxCell.append(softmaxKey, softmax, softmaxTrack);
      row.append(map, nameCell, meanCell, softmaxCell);
      this.root.append(row);
      this.sight.observe(row);
      this.rows.push({ row, map, canvas, name, here, meanKey, softmaxKey, mean, meanBar, zero, softmax, softmaxBar });
    }
  }
}
