// Paints the race of the neurons that decide: potentials that rise to the threshold, and how far each digit has come.
"use strict";

const race = (() => {
  const { T, classes, each, nameOf, range } = network, { part, label } = maps, NEVER = 2 ** 31 - 1;

  // Classes at the end of a step, the one that is ahead first: by when they crossed, then by how far they have come.
  function standing({ seen, step, race: { times, quickest, share } }) {
    const now = Math.min(step, seen.rising.length - 1), far = quickest.map((k) => share(k, now));
    const crossed = times.map((time) => (time <= step ? time : Infinity));
    const before = (a, b) => (crossed[a] === crossed[b] ? far[b] - far[a] || a - b : crossed[a] - crossed[b]);
    return range(classes).sort(before);
  }

  function caption(pen, colours, words, x, y, align = "left") {
    [pen.font, pen.fillStyle, pen.textAlign] = ["12px sans-serif", colours.soft, align];
    pen.fillText(words, x, y);
  }

  function frame(pen, colour, left, top, right, bottom) {
    [pen.strokeStyle, pen.lineWidth] = [colour, 1];
    pen.strokeRect(left, top, right - left, bottom - top);
  }

  // Potentials so far within a box of the canvas that spans the steps from .. to and the shares low .. high.
  function plot(pen, box, colours, ahead, { seen, step, race: run }) {
    const { left, right, top, bottom, from, to, low, high, marks } = box;
    const x = (t) => left + ((right - left) * (t - from)) / (to - from);
    const y = (share) => bottom - ((bottom - top) * (share - low)) / (high - low);
    const second = [colours.rival, 2.5], others = [colours.soft, 1.3];
    const looks = (c) => (c === ahead[0] ? [colours.first, 3.5] : c === ahead[1] ? second : others);
    const curve = (k, [colour, width]) => {
      const crossing = seen.answer[k] < NEVER ? seen.answer[k] / 256 : Infinity;
      [pen.strokeStyle, pen.lineWidth] = [colour, width];
      pen.beginPath();
      for (let t = 0; t <= step && t < crossing + 1; t++) {
        pen.lineTo(x(Math.min(t, crossing)), y(t > crossing ? 1 : run.share(k, t)));
      }
      pen.stroke();
    };
    pen.save();
    pen.beginPath();
    pen.rect(left, top, right - left, bottom - top);
    pen.clip();
    range(classes * each).filter((k) => !run.quickest.includes(k)).forEach((k) => curve(k, [colours.line, 1]));
    [...ahead].reverse().forEach((c) => curve(run.quickest[c], looks(c)));
    [pen.strokeStyle, pen.lineWidth] = [colours.text, 1];
    pen.setLineDash([6, 5]);
    pen.beginPath();
    pen.moveTo(left, y(1));
    pen.lineTo(right, y(1));
    pen.stroke();
    pen.restore();
    for (const c of ahead.slice(0, marks).reverse()) {
      if (run.times[c] > Math.min(step, to)) continue;
      [pen.fillStyle] = looks(c);
      pen.beginPath();
      pen.arc(x(run.times[c]), y(1), 10, 0, 7);
      pen.fill();
      [pen.font, pen.fillStyle, pen.textAlign] = ["bold 12px sans-serif", colours.card, "center"];
      pen.fillText(nameOf(c), x(run.times[c]), y(1) + 4.5);
    }
    return { x, y };
  }

  // The finish, magnified where curves are still flat.
  function plotFinish(pen, box, { x, y }, colours, ahead, view) {
    const { race: { quickest, times, order, share }, seen, end } = view, winner = times[order[0]];
    const from = winner - 2, to = Math.min(seen.rising.length - 1, winner + 2.5);
    const low = Math.min(0.98, share(quickest[order[Math.min(4, classes - 1)]], Math.floor(from)));
    const high = 1.02 + (1.02 - low) * 0.2, right = x(Math.min(T - 3, 0.48 * end));
    const lens = { left: box.left + 16, right, top: y(0.9), bottom: y(0.24), from, to, low, high, marks: 2 };
    pen.fillStyle = colours.card;
    pen.fillRect(lens.left, lens.top, lens.right - lens.left, lens.bottom - lens.top);
    frame(pen, colours.soft, lens.left, lens.top, lens.right, lens.bottom);
    frame(pen, colours.soft, x(from), Math.max(box.top, y(high)), x(Math.min(to, end)), y(low));
    caption(pen, colours, "the finish, magnified", lens.left, lens.bottom + 15);
    plot(pen, lens, colours, ahead, view);
  }

  function showChart(view, ahead) {
    const canvas = part("race"), pen = canvas.getContext("2d"), { step, end, race: { times, order } } = view;
    const style = getComputedStyle(document.getElementById("draw"));
    const names = ["text", "soft", "line", "card", "first", "rival"];
    const colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`)]));
    const wide = canvas.clientWidth || 720, high = Math.max(250, Math.round(wide * 0.44));
    const sharp = window.devicePixelRatio || 1;
    [canvas.width, canvas.height, canvas.style.aspectRatio] = [wide * sharp, high * sharp, `${wide} / ${high}`];
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    const box = { left: 24, right: wide - 14, top: 12, bottom: high - 34, from: 0, to: end };
    Object.assign(box, { low: -0.01, high: 1.1, marks: 1 });
    frame(pen, colours.line, box.left, box.top, box.right, box.bottom);
    const axes = plot(pen, box, colours, ahead, view), { x, y } = axes;
    for (let t = 0; t <= end; t += end > 40 ? 10 : 5) caption(pen, colours, t, x(t), high - 18, "center");
    caption(pen, colours, "step", box.right, high - 3, "right");
    caption(pen, colours, "threshold", box.left + 6, y(1) - 5);
    pen.save();
    pen.translate(15, box.bottom);
    pen.rotate(-Math.PI / 2);
    caption(pen, colours, "potential", 0, 0);
    pen.restore();
    if (Number.isFinite(times[order[0]]) && times[order[0]] > T) plotFinish(pen, box, axes, colours, ahead, view);
    const crossed = order.filter((c) => times[c] <= step);
    label("race", !crossed.length ? `By step ${step}, no neuron has crossed the threshold.`
      : `By step ${step}, these crossed the threshold, the first one first: ${crossed.map(nameOf).join(", ")}.`);
  }

  // How far each class has come, or had when the first crossed: that ends the race.
  function showScores({ race: { quickest, times, order, share }, seen, step }, ahead) {
    const over = times[order[0]] <= step, last = seen.rising.length - 1;
    const now = Math.min(over ? times[order[0]] : step, last), whole = Math.floor(now);
    range(classes).forEach((c) => {
      const row = part("scores").children[c], before = share(quickest[c], whole);
      const after = share(quickest[c], Math.min(last, whole + 1)), done = over && c === order[0];
      const far = done ? 1 : Math.max(0, Math.min(1, before + (after - before) * (now - whole)));
      const began = share(quickest[ahead[0]], whole) >= 0.05, percent = `${Math.floor(100 * far)} %`;
      row.className = !began ? "" : c === ahead[0] ? "first" : c === ahead[1] ? "rival" : "";
      row.querySelector("i").style.transform = `scaleX(${far})`;
      row.lastChild.textContent = !over ? percent : done ? `first, step ${times[c].toFixed(1)}`
        : `${percent}, ${Number.isFinite(times[c]) ? `${(times[c] - times[order[0]]).toFixed(1)} later` : "never"}`;
    });
  }

  function build() {
    part("each").textContent = ["no", "one", "two", "three", "four", "five"][each] ?? each;
    part("scores").append(...range(classes).map((c) => {
      const row = document.createElement("div");
      row.setAttribute("role", "row");
      row.innerHTML = '<span role="rowheader"></span><span class="bar"><i></i></span><span role="cell"></span>';
      row.firstChild.textContent = nameOf(c);
      return row;
    }));
  }

  function show(view) {
    const ahead = standing(view);
    showChart(view, ahead);
    showScores(view, ahead);
  }

  return { build, show };
})();
