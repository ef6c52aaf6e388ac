// Every word of the page in its two languages.

const WORDS = {
  answer_help: [
    "Each class has a map. Its mean is the class's logit, and softmax turns the logits into probabilities: average the maps and you have the answer. Nothing else stands between.",
    "每个类别有一张类别图，它的均值就是该类别的 logit；softmax 把各个 logit 变成概率。求平均即得答案，中间没有别的步骤。",
  ],
  answer_help_fc: [
    "This network ends in a fully connected layer: every logit is made of all values of the last maps, so there are no class maps to average. The layers and the pixels below show what it computes.",
    "这个网络以全连接层结尾：每个 logit 由最后一层的全部数值算出，因此没有可以求平均的类别图。下面的各层与像素仍然展示它的计算。",
  ],
  answer_title: ["The answer, and where it comes from", "答案，以及它从哪里来"],
  blank: ["Blank canvas", "空白画布"],
  block: ["Block {number}", "块 {number}"],
  bring: [
    "Drop a picture anywhere on this page, or paste one. It goes to your own server and nowhere else.",
    "把图片拖到页面任意处，或直接粘贴。图片只会发送到您自己的服务器。",
  ],
  brush: ["Brush", "笔刷大小"],
  channel: ["Channel {number}", "通道 {number}"],
  channel_facts: [
    "smallest {low}, mean {mean}, largest {high}; at row {row}, column {column}: {value}",
    "最小 {low}，均值 {mean}，最大 {high}；第 {row} 行第 {column} 列：{value}",
  ],
  channel_label: ["The channel, large; arrow keys move the place", "放大的通道；方向键移动位置"],
  channels: ["{count} channels", "{count} 个通道"],
  choose: ["Choose a file", "选择文件"],
  classes_all: ["Show all {count} classes", "显示全部 {count} 个类别"],
  classes_few: ["Show the most probable only", "只显示最可能的类别"],
  comma: [", ", "、"],
  close: ["Close", "关闭"],
  column_map: ["class map", "类别图"],
  column_mean: ["its mean = logit", "均值 = logit"],
  column_logit: ["logit", "logit"],
  key_mean: ["mean = logit", "均值 = logit"],
  column_softmax: ["softmax", "softmax"],
  conv: ["{kernel} convolution", "{kernel} 卷积"],
  drop_here: ["Drop the picture", "松开以放入图片"],
  dropout: ["Dropout: only while training, here nothing happens", "暂退（dropout）：只在训练时起作用，这里不改变任何值"],
  every_pixel: ["the same at every pixel", "每个像素处相同"],
  first_of: ["{shown} of {count} channels", "{count} 个通道中的 {shown} 个"],
  gap: ["Global average pooling: the mean of each class map is its logit", "全局平均汇聚：每张类别图的均值就是它的 logit"],
  here: ["at the pixel {value}", "该像素处 {value}"],
  ink: ["Colour", "颜色"],
  language: ["Language", "语言"],
  largest: ["largest: {list}", "最大：{list}"],
  layer_facts: [
    "{shape} (channels × rows × columns) · {parameters} parameters · one value sees {across} × {down} pixels",
    "{shape}（通道 × 行 × 列）· {parameters} 个参数 · 每个值看到 {across} × {down} 像素",
  ],
  layer_open: ["{layer} of {part}, {shape}: show large", "{part} 的 {layer}，{shape}：放大查看"],
  linear: ["Fully connected layer: from all values to the logits", "全连接层：由全部数值得到 logit"],
  network_help: [
    "{parameters} parameters, {macs} multiply-adds a picture. From top to bottom: a block is one spatial convolution, then 1×1 convolutions that mix the channels of each pixel. Choose a layer to see it large.",
    "{parameters} 个参数，每张图片 {macs} 次乘加。自上而下：一个块由一个空间卷积和若干 1×1 卷积组成，后者在每个像素处混合各通道。选择一层可放大查看。",
  ],
  network_help_plain: [
    "{parameters} parameters, {macs} multiply-adds a picture. From top to bottom: each block is spatial convolutions alone, none of 1×1. Choose a layer to see it large.",
    "{parameters} 个参数，每张图片 {macs} 次乘加。自上而下：每个块只有空间卷积，没有 1×1 卷积。选择一层可放大查看。",
  ],
  network_title: ["The network, layer by layer", "逐层看网络"],
  contents: ["On this page", "本页内容"],
  nav_answer: ["Answer", "答案"],
  nav_network: ["Layers", "各层"],
  nav_pixel: ["Pixel", "像素"],
  next: ["Next", "下一页"],
  no_file: ["That was no picture file; save the picture first, or copy it and paste it here.", "这不是图片文件；请先保存图片，或复制后粘贴到这里。"],
  norm: ["norm", "规范化"],
  on_picture: ["Lay the class map of {name} over the large picture", "把 {name} 的类别图叠在大图上"],
  own_scale: ["Each channel on its own colour scale", "每个通道使用自己的色阶"],
  page_of: ["channels {first} to {last} of {count}", "第 {first} 至 {last} 个通道，共 {count} 个"],
  parameters: ["{count} parameters", "{count} 个参数"],
  picture_title: ["The picture", "图片"],
  pixel_blocks: ["Block", "块"],
  pixel_help: [
    "A 1×1 convolution looks at one pixel alone: the channels there are the input of a small fully connected network, an MLP, with the same weights at every pixel. Point at a pixel of the picture, or move over it with the arrow keys, and see its channels pass through.",
    "1×1 卷积只看一个像素：该处的各个通道是一个小型全连接网络（MLP）的输入，所有像素共用同一组权重。指向图片中的像素，或用方向键移动，观察它的通道如何逐层变换。",
  ],
  pixel_help_plain: [
    "This network has no 1×1 convolutions, so there is no MLP at a pixel: what follows are the channels there, each of which is made of the pixels around it too. Point at a pixel of the picture, or move over it with the arrow keys.",
    "这个网络没有 1×1 卷积，因此像素处没有 MLP：下面是该处的各个通道，每个值还由周围的像素算出。指向图片中的像素，或用方向键移动。",
  ],
  pixel_place: [
    "Pixel ({x}, {y}) lies in row {row}, column {column} of this block's {rows} × {columns} maps; each value there sees {across} × {down} pixels of the picture (dashed).",
    "像素 ({x}, {y}) 位于该块 {rows} × {columns} 特征图的第 {row} 行第 {column} 列；那里的每个值看到图片中 {across} × {down} 个像素（虚线框）。",
  ],
  pixel_title: ["The MLP at a pixel", "像素处的 MLP"],
  pool: ["{kind} {kernel}, step {step}: {shape}", "{kernel} {kind}，步幅 {step}：{shape}"],
  pool_avg: ["Average pooling", "平均汇聚"],
  pool_max: ["Max pooling", "最大汇聚"],
  previous: ["Previous", "上一页"],
  relu: ["ReLU", "ReLU"],
  restore: ["Restore", "还原"],
  samples: ["Pictures to begin with", "示例图片"],
  sample: ["sample: {name}", "示例：{name}"],
  seen: [
    "What the network sees: {width} × {height} pixels, {colours}.",
    "网络看到的图片：{width} × {height} 像素，{colours}。",
  ],
  seen_colour: ["in colour", "彩色"],
  seen_grey: ["grey", "灰度"],
  skip: ["Skip to the answer", "跳到答案"],
  softmax_part: ["Softmax: from logits to probabilities", "Softmax：由 logit 得到概率"],
  stage_draw: ["Draw, and watch the answer change. Keys: arrows move, space draws.", "画图，看答案如何变化。按键：方向键移动，空格键落笔。"],
  stage_erase: [
    "Wipe parts away, and watch maps and answer change. Keys: arrows move, space wipes.",
    "擦去一部分，看类别图与答案如何变化。按键：方向键移动，空格键擦除。",
  ],
  stage_label: ["The picture, {width} by {height} pixels", "图片，{width} × {height} 像素"],
  stage_look: ["Point at a pixel, or press the arrow keys: what every class map and every layer holds there is shown.", "指向一个像素或按方向键：各类别图与各层在该处的值随之显示。"],
  test_accuracy: ["test accuracy {percent}", "测试准确率 {percent}"],
  theme: ["Colours of the page", "页面颜色"],
  theme_auto: ["Auto", "自动"],
  theme_dark: ["Dark", "深色"],
  theme_light: ["Light", "浅色"],
  token: ["This server wants its token", "此服务器需要令牌"],
  token_send: ["Enter", "进入"],
  token_wrong: ["That is not its token; it wants the one with which `nin serve` was started.", "令牌不正确；请输入启动 `nin serve` 时设置的令牌。"],
  tool: ["What the pointer does", "指针的作用"],
  tool_draw: ["Draw", "画"],
  tool_erase: ["Erase", "擦除"],
  tool_look: ["Look", "查看"],
  trouble: ["The server could not use this picture: {reason}", "服务器无法使用这张图片：{reason}"],
  trouble_server: ["The server does not answer. Is `nin serve` still running?", "服务器没有响应。`nin serve` 还在运行吗？"],
  vector_after: ["after the {layer}", "{layer}之后"],
  vector_step: ["{from} × {to} weights, {extra}", "{from} × {to} 个权重，{extra}"],
  vector_label: ["{layer}: {count} channels at this pixel", "{layer}：此像素处的 {count} 个通道"],
  verdict: ["{name}, {percent}", "{name}，{percent}"],

  watch_title: ["Training", "训练"],
  watch_accuracy: ["Accuracy", "准确率"],
  watch_accuracy_train: ["training", "训练"],
  watch_accuracy_validation: ["validation", "验证"],
  watch_classes_all: ["All {count} class maps are alive.", "全部 {count} 张类别图都在工作。"],
  watch_classes_dead: [
    "{count} of {all} class maps are dead (zero for every picture): {names}",
    "{all} 张类别图中有 {count} 张已死掉（对所有图片都为零）：{names}",
  ],
  watch_classes_never: ["This network's class maps cannot die: there is no ReLU behind them.", "这个网络的类别图不会死掉：其后没有 ReLU。"],
  watch_dead: ["Dead class maps", "死掉的类别图"],
  watch_done: ["Done: test accuracy {percent}", "训练完成：测试准确率 {percent}"],
  watch_done_next: ["Look inside it:", "查看它的内部："],
  watch_ended: ["The training stopped.", "训练已停止。"],
  watch_epoch: ["epoch {epoch} of {num_epochs}", "第 {epoch} 轮，共 {num_epochs} 轮"],
  watch_epoch_axis: ["epoch", "轮次"],
  watch_faint: [
    "Dots: whole epochs. Thin line: mean since the epoch began, so it starts anew with each.",
    "圆点：整轮结果。细线：本轮开始以来的均值，因此每轮重新开始。",
  ],
  watch_left: ["Time left", "剩余时间"],
  watch_loss: ["Loss", "损失"],
  watch_lost: ["The connection to the training is gone; what you see is the last that was heard.", "与训练的连接已断开；以下是最后收到的状态。"],
  watch_notes: ["What the training said", "训练日志"],
  watch_progress: ["How far the training is", "训练进度"],
  watch_rate: ["Images per second", "每秒图片数"],
  watch_stopped: ["The training stopped: {reason}", "训练已停止：{reason}"],
  watch_testing: ["All epochs are done; testing", "全部轮次已完成，正在测试"],
  watch_waiting: ["The training is about to begin", "训练即将开始"],
  watch_running: ["{percent} done", "已完成 {percent}"],
  watch_time: ["Time", "用时"],
  watch_table: ["Epoch by epoch", "逐轮结果"],
};

let column = 0;
const listeners = [];

// Letters that are written from right to left, such as Hebrew and Arabic ones.
const LEFTWARDS = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

/** A name as one piece of a line: behind one that is written from right to left, figures would stand in front of it, their signs behind them. */
export const whole = (name) => (LEFTWARDS.test(name) ? `\u2068${name}\u2069` : name);

/** The word for `key`, its {places} filled in. */
export function say(key, values = {}) {
  return WORDS[key][column].replace(/\{(\w+)\}/g, (_, name) => whole(values[name]));
}

export function language() {
  return column ? "zh" : "en";
}

/** Called after the language has changed. */
export function onLanguage(listener) {
  listeners.push(listener);
}

export function setLanguage(name) {
  column = name === "zh" ? 1 : 0;
  document.documentElement.lang = column ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const element of document.querySelectorAll("[data-say-label]")) element.setAttribute("aria-label", say(element.dataset.sayLabel));
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language()));
  }
  for (const listener of listeners) listener();
}

/** Numbers as the page writes them. */
export const count = (value) => value.toLocaleString("en-US");
export const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)}\u00a0%`;
export const figure = (value) => (Math.abs(value) < 0.005 ? "0.00" : value.toFixed(Math.abs(value) >= 100 ? 0 : 2)).replace("-", "−");
