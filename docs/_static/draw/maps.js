// Paints what fires: the cells of the eye, the features, and the digit that they tell. A view is what network.look
// gives, with the `step` up to which spikes are shown, and the feature that is `chosen`, or -1.
"use strict";

const maps = (() => {
  const { T, F, rows, columns, places, size, pictures } = network, { IMAGE } = raster;
  const part = (name) => document.getElementById(`draw-${name}`);
  const label = (name, text) => part(name).setAttribute("aria-label", text);

  // ---- Colours ----

  const DARK = [16, 21, 29], NOW = "#ff5c8a";
  const EARLY_TO_LATE = [[253, 243, 161], [139, 216, 110], [35, 160, 147], [63, 127, 196], [111, 88, 192]];
  const between = (from, to, share) => from.map((value, i) => Math.round(value + (to[i] - value) * share));
  const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

  function colourOf(t) {
    const at = (Math.min(t, T - 1) / Math.max(1, T - 1)) * (EARLY_TO_LATE.length - 1);
    const n = Math.min(Math.floor(at), EARLY_TO_LATE.length - 2);
    return css(between(EARLY_TO_LATE[n], EARLY_TO_LATE[n + 1], at - n));
  }

  const greyOf = (byte) => between(DARK, [255, 255, 255], byte / 255);
  const inkOf = (value) => (value > 0 ? between(DARK, [255, 250, 220], value) : between(DARK, [38, 70, 140], -value));

  // A canvas of one pixel for each of (rows, columns).
  function paint(canvas, [high, wide], colour) {
    const pixels = new ImageData(wide, high);
    for (let i = 0; i < high * wide; i++) pixels.data.set([...colour(i), 255], 4 * i);
    [canvas.width, canvas.height] = [wide, high];
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  const paintImage = (canvas, image) => paint(canvas, [IMAGE, IMAGE], (i) => greyOf(image[i]));
  const paintFeature = (canvas, f) => paint(canvas, size, (i) => inkOf(pictures[f][i]));

  // ---- The cells of the eye ----

  // First spikes of a map so far, those of now white with a bright edge; gives how many.
  function showMap(name, what, channel, { seen, step }) {
    const { shape: [, high, wide], times } = seen.parts[0], canvas = part(name), pen = canvas.getContext("2d");
    const side = canvas.width / Math.max(high, wide), count = high * wide;
    const map = times.subarray(channel * count, (channel + 1) * count);
    let fired = 0;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    map.forEach((t, i) => {
      if (t > step || t === T) return;
      const x = (i % wide) * side, y = Math.floor(i / wide) * side;
      fired++;
      pen.fillStyle = t === step ? NOW : colourOf(t);
      pen.fillRect(x, y, side, side);
      if (t < step) return;
      pen.fillStyle = "#fff";
      pen.fillRect(x + side * 0.2, y + side * 0.2, side * 0.6, side * 0.6);
    });
    label(name, `${what}: ${fired} of ${map.length} cells have fired.`);
    return fired;
  }

  function showEye(view) {
    const { times } = view.seen.parts[0], { step } = view, now = times.filter((t) => t === step).length;
    paintImage(part("image"), view.image);
    label("image", "What was drawn, as an image of 28 by 28 pixels");
    const fired = showMap("on", "Brighter spots", 0, view) + showMap("off", "Darker spots", 1, view);
    part("eye-now").textContent = step < T
      ? `At step ${step}, ${now} cells fire; ${fired} of ${times.length} have.`
      : `All that will fire have fired: ${fired} of ${times.length}.`;
  }

  // ---- The features ----

  function buildGrid() {
    part("count").textContent = F;
    part("grid").append(...pictures.map((_, f) => {
      const tile = document.createElement("div");
      tile.setAttribute("role", "option");
      tile.append(paintFeature(document.createElement("canvas"), f));
      return tile;
    }));
  }

  function showGrid({ seen, step, ofFeature, chosen }) {
    const { times } = seen.parts[1];
    [...part("grid").children].forEach((tile, f) => {
      const t = times[ofFeature[f]], fired = t <= step && t < T;
      tile.className = !fired ? "" : t === step ? "fired now" : "fired";
      tile.style.setProperty("--when", colourOf(t));
      tile.setAttribute("aria-label", `Feature ${f + 1}: ${fired ? `first fired at step ${t}` : "has not fired"}`);
      tile.setAttribute("aria-selected", String(f === chosen));
      tile.tabIndex = f === Math.max(0, chosen) ? 0 : -1;
    });
    const fired = ofFeature.filter((i) => times[i] <= step && times[i] < T).length;
    part("features-now").textContent = `By step ${Math.min(step, T - 1)}, ${fired} of ${F} have fired somewhere.`;
  }

  // The features that fired first of all.
  function showFirst({ seen, step, ofFeature }) {
    const { times, potentials } = seen.parts[1], fired = ofFeature.filter((i) => times[i] <= step && times[i] < T);
    fired.sort((a, b) => times[a] - times[b] || potentials[b] - potentials[a] || a - b);
    part("first").replaceChildren(...fired.slice(0, 8).map((i) => {
      const item = document.createElement("li"), f = Math.floor(i / places);
      item.append(paintFeature(document.createElement("canvas"), f), `step ${times[i]}`);
      item.setAttribute("aria-label", `Feature ${f + 1} at step ${times[i]}`);
      return item;
    }));
  }

  // The digit as it is told so far: at each place the picture of the feature that was first there, added to the rest.
  function showMosaic({ seen, step, ofPlace, chosen }) {
    const { times } = seen.parts[1], around = [rows + size[0] - 1, columns + size[1] - 1];
    const soFar = new Float32Array(around[0] * around[1]), whole = new Float32Array(soFar.length);
    for (const i of ofPlace.filter((neuron) => times[neuron] < T)) {
      const corner = (Math.floor(i / columns) % rows) * around[1] + (i % columns);
      pictures[Math.floor(i / places)].forEach((value, n) => {
        const at = corner + Math.floor(n / size[1]) * around[1] + (n % size[1]);
        whole[at] += value;
        if (times[i] <= step) soFar[at] += value;
      });
    }
    const most = whole.reduce((a, b) => Math.max(a, b), 1e-9), canvas = part("mosaic"), pen = canvas.getContext("2d");
    const small = paint(document.createElement("canvas"), around, (i) =>
      inkOf(Math.max(-0.6, Math.min(1, (1.6 * soFar[i]) / most))));
    pen.imageSmoothingEnabled = false;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.globalAlpha = chosen < 0 ? 1 : 0.35;
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
    pen.globalAlpha = 1;
    label("mosaic", `The digit as the features tell it by step ${step}`);
    const own = times.subarray(chosen * places, (chosen + 1) * places);
    if (chosen >= 0) showChosen(pen, canvas.width / around[1], own, step);
  }

  // Where a feature fired, as dots.
  function showChosen(pen, side, times, step) {
    times.forEach((t, place) => {
      if (t > step || t === T) return;
      const x = (place % columns) + size[1] / 2, y = Math.floor(place / columns) + size[0] / 2;
      pen.fillStyle = t === step ? "#fff" : colourOf(t);
      pen.beginPath();
      pen.arc(x * side, y * side, side * 0.45, 0, 7);
      pen.fill();
    });
  }

  function tellChosen({ seen, step, ofFeature, chosen }) {
    const { times } = seen.parts[1], own = times.subarray(chosen * places, (chosen + 1) * places);
    const where = own.filter((t) => t <= step && t < T).length;
    const when = `first fired at step ${times[ofFeature[chosen]]}`;
    part("chosen").textContent = chosen < 0 ? "Point at a feature, or tap it, to see where it fired."
      : !where ? `Feature ${chosen + 1} has not fired by now.`
        : `Feature ${chosen + 1} ${when}, and by now at ${where} of ${places} places: dots in the picture.`;
  }

  function showFeatures(view) {
    showGrid(view);
    showFirst(view);
    showMosaic(view);
    tellChosen(view);
  }

  return { part, label, NOW, paintImage, buildGrid, showEye, showFeatures };
})();
