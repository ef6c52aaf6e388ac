// The training view: where a training stands, as it tells it itself.

import { element } from "./elements.js";
import { chart } from "./chart.js";
import { switches } from "./chrome.js";
import { count, onLanguage, percent, say, whole } from "./words.js";

const get = (id) => document.getElementById(id);
let state = null;
let heard = 0; // when the last state came, in milliseconds
let lost = false;

const digits = (value, places = 4) => value.toFixed(places);

/** `1:05:09`, `3:20`. */
function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${String(rest).padStart(2, "0")}` : `${minutes}:${String(rest).padStart(2, "0")}`;
}

function headline() {
  const { phase, progress, epoch, num_epochs: all } = state;
  if (phase === "done") return say("watch_done", { percent: percent(state.result.test_accuracy, 2) });
  if (phase === "stopped") return state.reason ? say("watch_stopped", { reason: state.reason }) : say("watch_ended");
  if (phase === "testing") return say("watch_testing");
  if (phase === "waiting") return say("watch_waiting");
  return `${say("watch_running", { percent: percent(progress, 0) })} · ${say("watch_epoch", { epoch, num_epochs: all })}`;
}

function show() {
  get("lost").textContent = lost ? say("watch_lost") : "";
  if (!state) {
    get("state").textContent = say("watch_waiting");
    return;
  }
  const { rows, trace, dead, phase } = state;
  get("who").textContent = [state.name, state.data, state.path].filter(Boolean).map(whole).join(" · ");
  get("state").textContent = headline();
  document.title = `${headline()} · torchnin`;
  get("next").hidden = phase !== "done";
  get("command").textContent = state.command;
  get("progress").value = state.progress;
  const last = rows.at(-1);
  const loss = state.loss ?? last?.train_loss;
  const accuracy = state.accuracy ?? last?.train_accuracy;
  const rate = state.images_per_second ?? last?.images_per_second;
  get("loss").textContent = loss == null ? "–" : digits(loss, 3);
  get("accuracy").textContent = accuracy == null ? "–" : percent(accuracy);
  get("rate").textContent = rate == null ? "–" : count(Math.round(rate));
  const some = state.num_classes > 0;
  get("dead").textContent = some ? `${dead.length} / ${state.num_classes}` : "–";
  get("dead").classList.toggle("alarm", dead.length > 0);
  get("dead-text").textContent = !some
    ? ""
    : !state.can_die
      ? say("watch_classes_never")
      : dead.length
        ? say("watch_classes_dead", { count: dead.length, all: state.num_classes, names: dead.map(whole).join(say("comma")) })
        : say("watch_classes_all", { count: state.num_classes });
  left();
  curves();
  table();
  get("notes-part").hidden = !state.notes.length;
  get("notes").replaceChildren(...state.notes.map((note) => element("li", "", note)));
}

/** The time left, counted down between two states. */
function left() {
  if (!state) return;
  const known = state.phase === "training" && state.seconds_left !== null;
  get("left").textContent = known ? clock(state.seconds_left - (lost ? 0 : (performance.now() - heard) / 1000)) : state.phase === "done" ? "0:00" : "–";
}

function curves() {
  const { rows, trace, num_epochs: epochs } = state;
  const held = rows.some((row) => "validation_accuracy" in row);
  get("validation-key").hidden = !held;
  const dots = (key) => rows.filter((row) => key in row).map((row) => [row.epoch, row[key]]);
  const axis = say("watch_epoch_axis");
  const lossLine = { colour: "positive", dots: dots("train_loss"), trace: trace.map(([epoch, loss]) => [epoch, loss]) };
  chart(get("loss-chart"), { lines: [lossLine], epochs, low: 0, text: digits, axis });
  const lines = [{ colour: "positive", dots: dots("train_accuracy"), trace: trace.map(([epoch, , accuracy]) => [epoch, accuracy]) }];
  if (held) lines.push({ colour: "negative", dots: dots("validation_accuracy"), trace: [] });
  chart(get("accuracy-chart"), { lines, epochs, low: 0, high: 1, text: (value) => percent(value, 0), axis });
  const last = rows.at(-1);
  get("loss-chart").setAttribute("aria-label", `${say("watch_loss")}: ${last ? digits(last.train_loss) : "–"}`);
  get("accuracy-chart").setAttribute("aria-label", `${say("watch_accuracy")}: ${last ? percent(last.train_accuracy) : "–"}`);
}

function table() {
  const { rows } = state;
  get("epochs").hidden = !rows.length;
  const held = rows.some((row) => "validation_accuracy" in row);
  const columns = [
    [say("watch_epoch_axis"), (row) => String(row.epoch)],
    [say("watch_loss"), (row) => digits(row.train_loss)],
    [say("watch_accuracy"), (row) => percent(row.train_accuracy, 2)],
    ...(held ? [[say("watch_accuracy_validation"), (row) => percent(row.validation_accuracy, 2)]] : []),
    [say("watch_rate"), (row) => count(Math.round(row.images_per_second))],
    ...(state.num_classes ? [[say("watch_dead"), (row) => String(row.dead_class_maps)]] : []),
    [say("watch_time"), (row) => clock(row.seconds)],
  ];
  const cells = (tag, texts) => texts.map((text) => element(tag, "", text));
  const heads = cells("th", columns.map(([name]) => name));
  for (const head of heads) head.scope = "col";
  get("table-head").replaceChildren(...heads);
  get("table-body").replaceChildren(
    ...[...rows].reverse().map((row) => {
      const line = element("tr");
      line.append(...cells("td", columns.map(([, text]) => text(row))));
      return line;
    }),
  );
}

function listen() {
  const source = new EventSource("v1/training/events");
  source.addEventListener("message", (event) => {
    state = JSON.parse(event.data);
    heard = performance.now();
    lost = false;
    if (state.phase === "done") source.close(); // the server ends with the training; one that stopped may go on at the same address
    show();
  });
  source.addEventListener("error", () => {
    lost = !state?.final;
    show();
  });
}

onLanguage(show);
switches({ recoloured: () => state && curves() });
new ResizeObserver(() => state && curves()).observe(get("loss-chart"));
setInterval(left, 1000);
listen();
