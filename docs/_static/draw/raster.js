// What is drawn becomes an image of 28 x 28 as those of MNIST, in integers alone: docs/draw.md tells it in words.
"use strict";

const raster = (() => {
  const SIDE = 280, PEN = 12, IMAGE = 28, BOX = 20;

  // Blackens the pixels of the field whose centres are at most PEN away from the straight line between two points.
  function line(field, [ax, ay], [bx, by]) {
    const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
    const from = (a, b) => Math.max(0, Math.min(a, b) - PEN), to = (a, b) => Math.min(SIDE - 1, Math.max(a, b) + PEN);
    for (let y = from(ay, by); y <= to(ay, by); y++) {
      for (let x = from(ax, bx); x <= to(ax, bx); x++) {
        const px = x - ax, py = y - ay, along = px * dx + py * dy, across = px * dy - py * dx;
        const near = along <= 0 ? px * px + py * py <= PEN * PEN
          : along >= length ? (x - bx) ** 2 + (y - by) ** 2 <= PEN * PEN
            : across * across <= PEN * PEN * length;
        if (near) field[y * SIDE + x] = 1;
      }
    }
  }

  // The field of strokes, lists of points [x, y] of integers 0 .. 279.
  function drawn(strokes) {
    const field = new Uint8Array(SIDE * SIDE);
    for (const points of strokes) points.forEach((point, i) => line(field, points[Math.max(0, i - 1)], point));
    return field;
  }

  // How much of each of 28 pixels, `scale` wide, the pixels of the field cover along one axis, of which `first` is the
  // first with ink: pixel i lies at 20 (i - first) + shift, and is 20 wide. Pairs [pixel of the image, part of the 20].
  function covers(i, first, shift, scale) {
    const start = BOX * (i - first) + shift, end = start + BOX, found = [];
    for (let pixel = Math.floor(start / scale); pixel * scale < end; pixel++) {
      if (pixel < 0 || pixel >= IMAGE) continue;
      found.push([pixel, Math.min(end, (pixel + 1) * scale) - Math.max(start, pixel * scale)]);
    }
    return found;
  }

  // The image, 784 bytes: what is drawn scaled to a box of 20 x 20, its centre of mass in the middle.
  function image(field) {
    const grey = new Uint8Array(IMAGE * IMAGE), rows = [], columns = [];
    let left = SIDE, right = -1, top = SIDE, bottom = -1, count = 0, sumX = 0, sumY = 0;
    for (let y = 0; y < SIDE; y++) {
      for (let x = 0; x < SIDE; x++) {
        if (!field[y * SIDE + x]) continue;
        [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
        count++;
        sumX += x;
        sumY += y;
      }
    }
    if (!count) return grey;
    const scale = Math.max(right - left, bottom - top) + 1;  // as many twentieths of a pixel of the image are one
    const centre = (sum, first) => Math.floor((BOX * (sum - first * count) + (BOX / 2) * count) / count);
    const shift = (sum, first) => (IMAGE / 2) * scale - centre(sum, first);
    for (let x = left; x <= right; x++) columns[x] = covers(x, left, shift(sumX, left), scale);
    for (let y = top; y <= bottom; y++) rows[y] = covers(y, top, shift(sumY, top), scale);
    const area = new Float64Array(IMAGE * IMAGE);  // of integers
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        if (!field[y * SIDE + x]) continue;
        for (const [row, high] of rows[y]) {
          for (const [column, wide] of columns[x]) area[row * IMAGE + column] += high * wide;
        }
      }
    }
    return grey.map((_, i) => Math.floor((255 * area[i] + Math.floor((scale * scale) / 2)) / (scale * scale)));
  }

  return { SIDE, PEN, IMAGE, drawn, line, image };
})();

if (typeof module === "object") module.exports = raster;
