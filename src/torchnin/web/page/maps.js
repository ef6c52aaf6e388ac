// Many numbers as they come from the server, and where maps lie in the picture.

const KINDS = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };

/** The smallest and the largest of values, of which there may be more than a call takes arguments. */
export function range(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** The typed array of a packed document, with its shape. */
export function unpacked(packed) {
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index);
  return { values: new KINDS[packed.dtype](bytes.buffer), shape: packed.shape };
}

/** Maps `(channels, rows, columns)` of a layer; numbers are made of the codes as they are asked for. */
export class Maps {
  constructor(packed) {
    const { values, shape } = unpacked(packed);
    this.codes = values;
    [this.channels, this.rows, this.columns] = shape;
    const coded = packed.dtype === "uint16";
    this.offset = coded ? packed.low : 0;
    this.step = coded ? (packed.high - packed.low) / 65535 : 1;
    [this.low, this.high] = range(values).map((code) => this.offset + code * this.step);
    // ReLU gives zeros; a code's rounding must not make them negative.
    if (coded && Math.abs(this.low) < this.step) this.low = 0;
  }

  /** All values of one channel. */
  channel(index) {
    const size = this.rows * this.columns;
    const values = new Float32Array(size);
    for (let at = 0; at < size; at++) values[at] = this.offset + this.step * this.codes[index * size + at];
    return values;
  }

  /** The channel with the largest mean. */
  strongest() {
    const size = this.rows * this.columns;
    const sums = new Float64Array(this.channels);
    this.codes.forEach((code, at) => {
      sums[Math.floor(at / size)] += code;
    });
    return sums.indexOf(Math.max(...sums));
  }

  /** One value of every channel. */
  vector(row, column) {
    const size = this.rows * this.columns;
    const at = row * this.columns + column;
    const values = new Float32Array(this.channels);
    for (let index = 0; index < this.channels; index++) values[index] = this.offset + this.step * this.codes[index * size + at];
    return values;
  }
}

/** Where the values of a map lie in the picture that the network saw; the arithmetic of `Grid` in torchnin.explanation. */
export class Grid {
  constructor({ size, centre, stride, picture_size: picture }) {
    Object.assign(this, { size, centre, stride, picture });
  }

  /** Place in the map of a pixel of `length` that share the picture equally; axis 0 is down, 1 across. Not rounded. */
  position(axis, length, pixel) {
    const seen = (pixel + 0.5) * (this.picture[axis] / length) - 0.5;
    return Math.max(0, Math.min(this.size[axis] - 1, (seen - this.centre) / this.stride));
  }

  /** The place nearest to a pixel of the picture. */
  nearest(axis, pixel) {
    return Math.floor(this.position(axis, this.picture[axis], pixel) + 0.5);
  }

  /** The pixel of the picture in the middle of what a place sees. */
  pixel(axis, place) {
    return Math.max(0, Math.min(this.picture[axis] - 1, Math.round(this.centre + place * this.stride)));
  }

  /** How many pixels across and down a value sees at most that sees `sees`: no more than there are. */
  seen(sees) {
    return { across: Math.min(sees, this.picture[1]), down: Math.min(sees, this.picture[0]) };
  }

  /** A map at another resolution of the same picture: bilinear between the middles of what its values see. */
  upsample(values, width, height) {
    const [rows, columns] = this.size;
    const result = new Float32Array(width * height);
    const across = Array.from({ length: width }, (_, x) => this.position(1, width, x));
    for (let y = 0; y < height; y++) {
      const down = this.position(0, height, y);
      const top = Math.min(Math.floor(down), Math.max(0, rows - 2));
      const bottom = Math.min(top + 1, rows - 1);
      for (let x = 0; x < width; x++) {
        const left = Math.min(Math.floor(across[x]), Math.max(0, columns - 2));
        const right = Math.min(left + 1, columns - 1);
        const [v, u] = [down - top, across[x] - left];
        const upper = values[top * columns + left] * (1 - u) + values[top * columns + right] * u;
        const lower = values[bottom * columns + left] * (1 - u) + values[bottom * columns + right] * u;
        result[y * width + x] = upper * (1 - v) + lower * v;
      }
    }
    return result;
  }
}
