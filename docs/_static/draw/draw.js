// The page "Draw a digit": the pen, the time, and the verdict. What is decided is decided by runtime.js, in integers.
"use strict";

const draw = (() => {
  const { SIDE } = raster, { model, T, F, nameOf } = network, { part, label } = maps;
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  // The digits to begin with, as points that lines are drawn between, once their corners are cut.
  const EXAMPLES = [
    [[[140, 45], [105, 60], [85, 100], [80, 140], [85, 180], [105, 220], [140, 235], [175, 220], [195, 180],
      [200, 140], [195, 100], [175, 60], [140, 45]]],
    [[[155, 45], [130, 235]]],
    [[[85, 90], [100, 60], [135, 45], [170, 55], [190, 85], [185, 120], [160, 155], [120, 190], [80, 230], [120, 228],
      [200, 232]]],
    [[[90, 65], [120, 46], [160, 46], [185, 70], [180, 105], [150, 130], [120, 136], [155, 140], [190, 165], [190, 205],
      [160, 232], [115, 235], [85, 215]]],
    [[[100, 50], [85, 110], [80, 150], [130, 150], [190, 145]], [[180, 55], [175, 120], [165, 235]]],
    [[[190, 50], [110, 52], [100, 125], [140, 115], [180, 130], [195, 170], [180, 210], [140, 235], [90, 225]]],
    [[[165, 45], [120, 90], [95, 140], [88, 190], [110, 230], [150, 238], [185, 210], [182, 170], [150, 150],
      [110, 165], [92, 190]]],
    [[[80, 60], [190, 55], [175, 105], [145, 170], [125, 235]]],
    [[[180, 75], [150, 48], [110, 58], [100, 95], [130, 130], [175, 165], [185, 205], [155, 235], [110, 230], [95, 195],
      [120, 155], [170, 115], [185, 85]]],
    [[[180, 85], [150, 55], [110, 65], [95, 105], [115, 135], [155, 130], [180, 100], [182, 75], [178, 140], [170, 190],
      [155, 235]]],
  ];

  // A line with its corners cut, in integers.
  function smoothed(line) {
    const between = (from, to, a, b) => from.map((value, axis) => (a * value + b * to[axis] + 2) >> 2);
    const cut = line.slice(1).flatMap((to, i) => [between(line[i], to, 3, 1), between(line[i], to, 1, 3)]);
    return [line[0], ...cut, line.at(-1)];
  }

  // What is drawn and what is seen of it (of network.look), up to which step, and where the pen is.
  const state = {
    strokes: [], image: null, seen: null, race: null, end: T, step: 0, chosen: -1, timer: null,
    pen: { at: [SIDE / 2, SIDE / 2], down: false, keys: false },
  };

  function look() {
    const start = performance.now(), image = raster.image(raster.drawn(state.strokes)), drawn = performance.now();
    Object.assign(state, network.look(image));
    const took = [performance.now() - drawn, drawn - start].map((time) => time.toFixed(1));
    part("time").max = state.end;
    part("cost").textContent = !state.strokes.length ? ""
      : `Decided in ${took[0]} ms by this browser, and drawn in ${took[1]} ms: nothing is sent anywhere.`;
  }

  // ---- What is told ----

  function crossed() {
    const { times, order: [first, second] } = state.race, at = (c) => times[c].toFixed(1);
    const nearest = `Nobody crosses the threshold; a neuron of ${nameOf(state.seen.decision)} comes nearest.`;
    if (!Number.isFinite(times[first])) return nearest;
    const next = Number.isFinite(times[second]) ? `; ${nameOf(second)} would be next, at ${at(second)}` : "";
    return `A neuron of ${nameOf(first)} fires first, at step ${at(first)}${next}.`;
  }

  function showVerdict() {
    const { strokes, seen: { decision }, race: { times, order }, step, end } = state, digit = part("digit");
    const open = !strokes.length ? "Draw a digit, and see which neuron fires first."
      : decision < 0 ? "Nothing fires: there is nothing that the network could hear."
        : times[order[0]] > step && step < end ? `Step ${step}: nobody has crossed the threshold yet.` : null;
    digit.textContent = open ? "?" : nameOf(decision);
    digit.className = open ? "" : "sure";
    part("verdict").textContent = open ?? crossed();
    const said = open && step < end ? "" : open ?? `It reads ${nameOf(decision)}. ${crossed()}`;
    if (said && part("said").textContent !== said) part("said").textContent = said;
  }

  // What happens at this step, in a sentence.
  function story() {
    const { seen: { parts, decision }, step, race: { times, order: [first] } } = state;
    const [cells, found] = parts.map((one) => one.times.reduce((sum, t) => sum + (t === step), 0));
    const fire = (count, what) => `${count || "No"} ${what}${count === 1 ? " fires" : "s fire"}`;
    if (decision < 0) return "Nothing has been drawn, so nobody fires.";
    if (times[first] <= step) return `${nameOf(first)} has crossed its threshold first: that is the decision.`;
    if (step >= T) return "All spikes have been heard. Potentials go on rising: who is first?";
    const pieces = found === 1 ? "its piece" : "their pieces";
    return `${fire(cells, "cell")}${found ? `, and ${fire(found, "neuron")} that found ${pieces}` : ""}.`;
  }

  function show(step) {
    state.step = Math.max(0, Math.min(step, state.end));
    const now = `step ${state.step} of ${state.end}`;
    part("time").value = state.step;
    part("time").setAttribute("aria-valuetext", now);
    part("now").textContent = now;
    part("story").textContent = story();
    maps.showEye(state);
    maps.showFeatures(state);
    race.show(state);
    showVerdict();
  }

  // ---- Time ----

  let waiting = 0, replay = 0;  // a frame of the screen, and a moment of rest

  function stop() {
    clearTimeout(replay);
    clearInterval(state.timer);
    state.timer = null;
    part("play").textContent = "\u25b6";
    label("play", "Play");
  }

  function play({ again = state.step >= state.end } = {}) {
    stop();
    if (again) show(0);
    part("play").textContent = "\u275a\u275a";
    label("play", "Pause");
    state.timer = setInterval(() => {
      show(state.step + 1);
      if (state.step >= state.end) stop();
    }, 230);
  }

  // ---- The pen ----

  function showField() {
    const canvas = part("field"), pen = canvas.getContext("2d"), scale = canvas.width / SIDE;
    const { at, down, keys } = state.pen;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, SIDE, SIDE);
    if (!state.strokes.length && !keys) {
      [pen.fillStyle, pen.font, pen.textAlign] = ["#8b95a5", "15px sans-serif", "center"];
      pen.fillText("draw a digit here", SIDE / 2, SIDE / 2);
    }
    [pen.lineWidth, pen.lineCap, pen.lineJoin, pen.strokeStyle] = [2 * raster.PEN, "round", "round", "#fffae0"];
    for (const points of state.strokes) {
      pen.beginPath();
      for (const [x, y] of [points[0], ...points]) pen.lineTo(x + 0.5, y + 0.5);
      pen.stroke();
    }
    if (!keys || document.activeElement !== canvas) return;
    [pen.lineWidth, pen.strokeStyle] = [3, down ? maps.NOW : "#8b95a5"];
    pen.beginPath();
    pen.arc(...at, raster.PEN + 3, 0, 7);
    pen.stroke();
  }

  // Looks once for each frame of the screen at most; when the pen has rested for a moment, shows it all from the start.
  function changed() {
    stop();
    showField();
    waiting ||= requestAnimationFrame(() => {
      waiting = 0;
      look();
      show(state.end);
      if (state.strokes.length && !still.matches && !state.pen.down) replay = setTimeout(play, 900, { again: true });
    });
  }

  function begin(strokes) {
    Object.assign(state, { strokes, chosen: -1 });
    state.pen.down = false;
    stop();
    showField();
    look();
    if (still.matches || !strokes.length) show(state.end);
    else play({ again: true });
  }

  const within = (value) => Math.max(0, Math.min(SIDE - 1, Math.floor(value)));

  function placeOf(event) {
    const { left, top, width, height } = part("field").getBoundingClientRect();
    return [within(((event.clientX - left) / width) * SIDE), within(((event.clientY - top) / height) * SIDE)];
  }

  function press(at, keys) {
    state.pen = { at, keys, down: true };
    state.strokes = [...state.strokes, [at]];
    changed();
  }

  function move(at) {
    const stroke = state.strokes.at(-1);
    state.pen.at = at;
    if (String(stroke.at(-1)) !== String(at)) stroke.push(at);
    changed();
  }

  function lift() {
    if (!state.pen.down) return;
    state.pen.down = false;
    changed();
  }

  function clear() {
    state.strokes = [];
    state.pen.down = false;
    changed();
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function penKey(event) {
    const { pen } = state, way = ARROWS[event.key];
    if (!way && event.key !== " " && event.key !== "Escape") return;
    event.preventDefault();
    pen.keys = true;
    if (event.key === "Escape") clear();
    else if (way) {
      const to = pen.at.map((value, axis) => within(value + way[axis] * (event.shiftKey ? 2 : 8)));
      if (pen.down) move(to);
      else {
        pen.at = to;
        showField();
      }
    } else if (!event.repeat) {
      part("said").textContent = pen.down ? "Pen up" : "Pen down";
      if (pen.down) lift();
      else press(pen.at, true);
    }
  }

  function listenToPen(field) {
    field.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      field.setPointerCapture(event.pointerId);
      press(placeOf(event), false);
    });
    field.addEventListener("pointermove", (event) => {
      if (!state.pen.down || state.pen.keys) return;
      for (const one of [...(event.getCoalescedEvents?.() ?? []), event]) move(placeOf(one));
    });
    for (const name of ["pointerup", "pointercancel"]) field.addEventListener(name, lift);
    for (const name of ["focus", "blur"]) field.addEventListener(name, showField);
    field.addEventListener("keydown", penKey);
  }

  // ---- The rest of the page ----

  function listenToGrid(grid) {
    const tileOf = (target) => [...grid.children].indexOf(target.closest("#draw-grid > div"));
    const choose = (f) => {
      state.chosen = f;
      maps.showFeatures(state);
    };
    grid.addEventListener("pointerover", ({ target }) => { if (tileOf(target) >= 0) choose(tileOf(target)); });
    grid.addEventListener("pointerleave", ({ pointerType }) => { if (pointerType === "mouse") choose(-1); });
    grid.addEventListener("focusin", ({ target }) => choose(tileOf(target)));
    grid.addEventListener("focusout", () => choose(-1));
    grid.addEventListener("keydown", (event) => {
      const way = ARROWS[event.key], wide = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
      if (!way) return;
      event.preventDefault();
      grid.children[Math.max(0, Math.min(F - 1, state.chosen + way[0] + way[1] * wide))].focus();
    });
  }

  function listen() {
    listenToPen(part("field"));
    listenToGrid(part("grid"));
    part("clear").addEventListener("click", clear);
    part("play").addEventListener("click", () => (state.timer ? stop() : play()));
    part("time").addEventListener("input", ({ target }) => {
      stop();
      show(Number(target.value));
    });
    const again = () => race.show(state);  // the chart is painted in the colours and the width that the page has now
    new MutationObserver(again).observe(document.body, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    new ResizeObserver(again).observe(part("race").parentElement);
  }

  function exampleButton(strokes, digit) {
    const button = document.createElement("button"), image = raster.image(raster.drawn(strokes));
    button.type = "button";
    button.setAttribute("aria-label", `Draw a ${digit}`);
    button.append(maps.paintImage(document.createElement("canvas"), image));
    button.addEventListener("click", () => begin(strokes));
    network.look(image);  // the browser compiles while nobody waits
    return button;
  }

  const examples = EXAMPLES.map((strokes) => strokes.map((line) => smoothed(smoothed(line))));
  part("examples").append(...examples.map(exampleButton));
  maps.buildGrid();
  race.build();
  listen();
  begin(examples[3]);
  return { state, model, begin };
})();
