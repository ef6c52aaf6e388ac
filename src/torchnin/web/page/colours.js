// From numbers to colours. The scales are matplotlib's, as in every other picture that the project draws.

const CIVIDIS = "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 8c8878 9b9476 aba072 bcae6c cdbb63 dec958 f0d846 fee838".split(" ");
const PUOR = "7f3b08 b35806 e08214 fdb863 fee0b6 f7f7f7 d8daeb b2abd2 8073ac 542788 2d004b".split(" ");

const rgb = (hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));

function table(stops) {
  const colours = stops.map(rgb);
  const entries = new Uint8Array(256 * 3);
  for (let index = 0; index < 256; index++) {
    const at = (index / 255) * (colours.length - 1);
    const left = Math.min(Math.floor(at), colours.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      entries[3 * index + channel] = colours[left][channel] + (at - left) * (colours[left + 1][channel] - colours[left][channel]);
    }
  }
  return entries;
}

const SEQUENTIAL = table(CIVIDIS);
const DIVERGING = table(PUOR);

/** A colour scale for values from `low` to `high`: from zero up where nothing is negative, else symmetric about zero. */
export function scaleOf(low, high) {
  if (low >= 0) return { low: 0, high: high || 1, colours: SEQUENTIAL, signed: false };
  const limit = Math.max(-low, high) || 1;
  return { low: -limit, high: limit, colours: DIVERGING, signed: true };
}

/** The values as coloured pixels. */
export function coloured(values, width, height, scale, opacity = 1) {
  const image = new ImageData(width, height);
  const factor = 255 / (scale.high - scale.low);
  for (let index = 0; index < width * height; index++) {
    const level = 3 * Math.max(0, Math.min(255, Math.round((values[index] - scale.low) * factor)));
    image.data[4 * index] = scale.colours[level];
    image.data[4 * index + 1] = scale.colours[level + 1];
    image.data[4 * index + 2] = scale.colours[level + 2];
    image.data[4 * index + 3] = 255 * opacity;
  }
  return image;
}

/** The pixels on a canvas of their own size, to be drawn at any other. */
export function asCanvas(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** A canvas made sharp: as many pixels as the screen has there. Returns its context, in CSS pixels. */
export function sharp(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

let probe;
/** What a colour of the style sheet is now, in light or dark. */
export function ink(name) {
  if (!probe) {
    probe = document.createElement("span");
    probe.hidden = true;
    document.body.append(probe);
  }
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

/** Paint a colour bar, with its ends and zero beside it, into an element. */
export function legend(element, scale, text) {
  const canvas = document.createElement("canvas");
  canvas.width = 256;
  canvas.height = 1;
  canvas.setAttribute("role", "presentation");
  const values = Float32Array.from({ length: 256 }, (_, index) => scale.low + (index / 255) * (scale.high - scale.low));
  canvas.getContext("2d").putImageData(coloured(values, 256, 1, scale), 0, 0);
  const left = document.createElement("span");
  const right = document.createElement("span");
  left.textContent = text(scale.low);
  right.textContent = text(scale.high);
  element.replaceChildren(left, canvas, right);
}
