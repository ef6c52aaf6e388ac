// Curves over the epochs: whole epochs as dots, the running one as a thin line.

import { ink, sharp } from "./colours.js";

const EDGE = { left: 46, right: 12, top: 10, bottom: 34 };

/**
 * Draw into a canvas.
 *
 * `lines` are `{ colour, dots: [[epoch, value]], trace: [[epoch, value]] }`; `low` and `high` bound the values where they are
 * given; `text(value, decimals)` writes a tick, `axis` names the epochs.
 */
export function chart(canvas, { lines, epochs, low = null, high = null, text, axis }) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return;
  const context = sharp(canvas, width, height);
  const values = lines.flatMap(({ dots, trace }) => [...dots, ...trace].map(([, value]) => value));
  const ticks = ticksOf(low ?? Math.min(0, ...values), high ?? Math.max(...values, 0.1), high !== null);
  const [bottom, top] = [ticks[0], ticks.at(-1)];
  const decimals = Math.max(1, Math.ceil(-Math.log10(ticks[1] - ticks[0]) - 1e-9));
  const x = (epoch) => EDGE.left + (epoch / Math.max(epochs, 1)) * (width - EDGE.left - EDGE.right);
  const y = (value) => height - EDGE.bottom - ((value - bottom) / (top - bottom)) * (height - EDGE.bottom - EDGE.top);

  context.font = `12px ${getComputedStyle(canvas).fontFamily}`;
  context.lineWidth = 1;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const tick of ticks) {
    context.fillStyle = ink("rule");
    context.fillRect(EDGE.left, Math.round(y(tick)), width - EDGE.left - EDGE.right, 1);
    context.fillStyle = ink("quiet");
    context.fillText(text(tick, decimals), EDGE.left - 8, y(tick));
  }
  context.textAlign = "center";
  const step = Math.max(1, Math.ceil(epochs / Math.max(1, Math.floor((width - EDGE.left) / 42))));
  for (let epoch = 0; epoch <= epochs; epoch += step) context.fillText(String(epoch), x(epoch), height - EDGE.bottom + 14);
  context.fillText(axis, (EDGE.left + width - EDGE.right) / 2, height - 6);

  for (const { colour, dots, trace } of lines) {
    context.strokeStyle = context.fillStyle = ink(colour);
    context.lineJoin = "round";
    context.globalAlpha = 0.55;
    context.lineWidth = 1;
    context.beginPath();
    trace.forEach(([epoch, value], index) => {
      // Each epoch's mean starts anew, and so does its line.
      const begins = index === 0 || Math.floor(trace[index - 1][0]) !== Math.floor(epoch);
      if (begins) context.moveTo(x(epoch), y(value));
      else context.lineTo(x(epoch), y(value));
    });
    context.stroke();
    context.globalAlpha = 1;
    context.lineWidth = 2;
    context.beginPath();
    dots.forEach(([epoch, value], index) => (index ? context.lineTo(x(epoch), y(value)) : context.moveTo(x(epoch), y(value))));
    context.stroke();
    for (const [epoch, value] of dots) {
      context.beginPath();
      context.arc(x(epoch), y(value), epochs > 60 ? 1.5 : 3.5, 0, 2 * Math.PI);
      context.fill();
    }
  }
}

/** Four to seven round numbers from below the lowest to above the highest; `fixed` ends stay as they are. */
function ticksOf(low, high, fixed) {
  const rough = (high - low) / 5;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((each) => each >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9);
  const last = fixed ? Math.round(high / step) : Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}
