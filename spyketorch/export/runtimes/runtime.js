// Networks of integers in JavaScript, in a browser (behind reading.js) and in node: docs/integer.md has all of it.
//   const model = spyketorch.read(arrayBuffer)          throws an Error of one sentence for what is not such a network
//   const seen = spyketorch.trace(model, uint8Array)    {parts: [{name, shape, times}, ...], answer, decision, ...}
// As a program: node runtime.js MODEL < images > traces
//
// All numbers are integers. What needs 64 bits elsewhere is kept in doubles, which hold integers up to 2^53: the
// largest products are 2^20 x and 2^20 `largest`, both below 2^51. floor(a / b) is exact as well where a + b < 2^53: if
// a / b is no integer, it lies at least 1 / b below the next one, n; rounding moves it by at most n 2^-53, and
// n b < a + b. (No a is negative here.)
"use strict";

const spyketorch = (() => {
  const { read: readFile, need, product } = typeof module === "object" ? require("./reading.js") : spyketorchReading;
  const NEVER = 2 ** 31 - 1;

  // ---- The encoder ----

  // New maps, with value(map, row, column, flat index) at each place.
  function filled(shape, value, array = new Int32Array(product(shape))) {
    const [count, rows, columns] = shape;
    for (let k = 0, i = 0; k < count; k++) {
      for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++, i++) array[i] = value(k, y, x, i);
    }
    return array;
  }

  // Times by what timeOf says of a value and the largest of its place; 0 is silent.
  function byValue(values, { shape, largest }, T, timeOf) {
    const [K, H, W] = largest.shape;  // where 1 stands for all
    const time = (k, y, x, i) => timeOf(values[i], largest[((k % K) * H + (y % H)) * W + (x % W)]);
    return filled(shape, (k, y, x, i) => (values[i] === 0 ? T : time(k, y, x, i)), new Uint8Array(values.length));
  }

  const ENCODE = {
    pad(values, { given: [, rows, columns], shape, top, left, edge }) {
      return filled(shape, (k, y, x) => {
        const i = Math.min(Math.max(y - top, 0), rows - 1), j = Math.min(Math.max(x - left, 0), columns - 1);
        return edge || (i === y - top && j === x - left) ? values[(k * rows + i) * columns + j] : 0;
      });
    },
    filter(values, { given: [, rows, columns], shape, weight, threshold, absolute }) {
      const [K, D, high, wide] = weight.shape;
      return filled(shape, (map, y, x) => {
        const k = map % K, channel = D === 1 ? (map - k) / K : 0;
        let sum = 0, w = k * D * high * wide;
        for (let d = channel; d < channel + D; d++) {
          for (let i = y; i < y + high; i++) {
            const start = (d * rows + i) * columns + x;
            for (let at = start; at < start + wide; at++) sum += weight[w++] * values[at];
          }
        }
        return sum < threshold[k] ? 0 : absolute ? Math.abs(sum) : sum;
      });
    },
    onoff(values, { shape }) {
      const size = shape[1] * shape[2];
      return filled(shape, (k, y, x, i) => Math.max(0, (k % 2 ? -1 : 1) * values[(k >> 1) * size + (i % size)]));
    },
    normalise(values, { shape, radius, shift }) {
      const [, rows, columns] = shape;
      return filled(shape, (k, y, x, at) => {
        let sum = 0;
        for (let i = Math.max(0, y - radius); i <= Math.min(rows - 1, y + radius); i++) {
          const row = (k * rows + i) * columns, end = Math.min(columns - 1, x + radius);
          for (let j = Math.max(0, x - radius); j <= end; j++) sum += values[row + j];
        }
        return sum ? Math.floor((values[at] * 2 ** shift) / sum) : 0;
      });
    },
    rank(values, part, T) {
      const order = [...values.keys()].filter((i) => values[i]).sort((a, b) => values[b] - values[a] || a - b);
      const times = new Uint8Array(values.length).fill(T), each = Math.max(1, Math.floor(order.length / T));
      order.slice(0, each * T).forEach((i, rank) => { times[i] = Math.floor(rank / each); });
      return times;
    },
    latency(values, part, T) {
      const late = (x, largest) => Math.min(T - 1, Math.floor(((largest - x) * T) / largest));
      return byValue(values, part, T, (x, largest) => (x >= largest ? 0 : late(x, largest)));
    },
    table(values, part, T) {
      const count = (x, largest) => part.limits.filter((limit) => x * 2 ** 20 < limit * largest).length;
      return byValue(values, part, T, count);
    },
  };

  // ---- A stage ----

  // Weights laid out so that those lie together which one input adds to the features of a place:
  // [channel][row][column][feature of the channel's group], of [feature][channel of the group][row][column].
  function laidOut({ weight, groups, shape: [F] }) {
    const heard = weight.length / F, each = F / groups, laid = new Int16Array(weight.length);
    weight.forEach((n, i) => {
      const f = Math.floor(i / heard), of = f % each;
      laid[(f - of) * heard + (i % heard) * each + of] = n;
    });
    return laid;
  }

  // Which inputs fire at each step, in flat order (a counting sort).
  function byTime(times, T) {
    const end = new Uint32Array(T + 1), order = new Uint32Array(times.length);
    for (const t of times) end[t]++;
    for (let t = 1; t <= T; t++) end[t] += end[t - 1];
    const next = Uint32Array.of(0, ...end);
    times.forEach((t, i) => { order[next[t]++] = i; });
    return Array.from(end.subarray(0, T), (_, t) => order.subarray(t ? end[t - 1] : 0, end[t]));
  }

  // {times, potentials} of a layer. Each spike adds its weights to all neurons that hear it; at the end of a step those
  // whose places were reached since they were asked last are asked, as no other potential has changed.
  function fire({ given: [C, H, W], shape, kernel, stride, padding, dilation, ...layer }, times, T) {
    const [F, rows, columns] = shape, { groups, threshold, laid } = layer, each = F / groups, places = rows * columns;
    const potential = new Int32Array(places * F), fired = new Uint8Array(places * F);  // [place][feature]
    const found = { times: new Uint8Array(F * places).fill(T), potentials: new Int32Array(F * places) };
    const reached = new Uint8Array(places), limit = threshold ?? new Int32Array(F);
    byTime(times, T).forEach((inputs, t) => {
      for (const input of inputs) {
        const c = Math.floor(input / (H * W)), y = Math.floor(input / W) % H, x = input % W;
        const group = Math.floor((c * groups) / C) * each;
        for (let i = 0; i < kernel[0]; i++) {
          const row = (y + padding[0] - i * dilation[0]) / stride[0];
          if (row < 0 || row >= rows || !Number.isInteger(row)) continue;
          for (let j = 0; j < kernel[1]; j++) {
            const column = (x + padding[1] - j * dilation[1]) / stride[1];
            if (column < 0 || column >= columns || !Number.isInteger(column)) continue;
            let at = (row * columns + column) * F + group, w = ((c * kernel[0] + i) * kernel[1] + j) * each;
            for (const end = w + each; w < end;) potential[at++] += laid[w++];
            reached[row * columns + column] = 1;
          }
        }
      }
      if (threshold === null && t < T - 1) return;
      for (let place = 0; place < places; place++) {
        if (!reached[place]) continue;
        reached[place] = 0;
        for (let f = 0, at = place * F; f < F; f++, at++) {
          if (potential[at] <= limit[f] || fired[at]) continue;
          fired[at] = 1;
          found.times[f * places + place] = t;
          found.potentials[f * places + place] = potential[at];
        }
      }
    });
    return found;
  }

  // Of the neurons start, start + step, ...: the earliest, of those that of the largest potential, of those the first.
  function first({ times, potentials }, start, step) {
    let best = start;
    for (let i = start; i < times.length; i += step) {
      if (times[i] < times[best] || (times[i] === times[best] && potentials[i] > potentials[best])) best = i;
    }
    return best;
  }

  function inhibited(fired, [, rows, columns], T) {
    const times = new Uint8Array(fired.times.length).fill(T), places = rows * columns;
    for (let place = 0; place < places; place++) {
      const best = first(fired, place, places);
      times[best] = fired.times[best];
    }
    return times;
  }

  function pooled(times, { given: [, H, W], shape, kernel, stride, padding, earliest: rank }, T) {
    const earliest = new Uint8Array(rank);  // of a window, rising
    return filled(shape, (k, y, x) => {
      const top = y * stride[0] - padding[0], left = x * stride[1] - padding[1];
      earliest.fill(T);
      for (let i = Math.max(0, top); i < Math.min(H, top + kernel[0]); i++) {
        for (let j = Math.max(0, left); j < Math.min(W, left + kernel[1]); j++) {
          const t = times[(k * H + i) * W + j];
          if (t >= earliest[rank - 1]) continue;
          let at = rank - 1;
          for (; at > 0 && t < earliest[at - 1]; at--) earliest[at] = earliest[at - 1];
          earliest[at] = t;
        }
      }
      return earliest[rank - 1];
    }, new Uint8Array(product(shape)));
  }

  // ---- The decision ----

  const firstLargest = (values) => values.reduce((best, value, k) => (value > values[best] ? k : best), 0);

  // Each is asked about the last times, whether some fired at all, and what the last layer did.
  const DECIDE = {
    winner({ given: [, rows, columns], classes }, times, some, fired) {
      if (!some) return { answer: [-1, -1, -1], decision: -1 };
      const best = first(fired, 0, 1), f = Math.floor(best / (rows * columns));
      return { answer: [f, Math.floor(best / columns) % rows, best % columns], decision: classes[f] };
    },
    linear({ weight, bias }, times, some, fired, T) {
      const row = (c) => weight.subarray(c * times.length, (c + 1) * times.length);
      const answer = Array.from(bias, (start, c) => row(c).reduce((sum, w, i) => sum + w * (T - times[i]), start));
      return { answer, decision: some ? firstLargest(answer) : -1 };
    },
    // `rising` are the potentials at the end of each step.
    "first spike"({ weight, threshold, per_class: each, ramp }, times, some, fired, T) {
      const answer = Array.from(threshold, () => NEVER), inputs = byTime(times, T), rising = [];
      let heard = new Int32Array(threshold.length), before = heard;
      for (let t = 0; t < (ramp ? 4 * T + 1 : T); t++) {
        const earlier = heard;
        const adds = (k, i) => weight[k * times.length + i];
        if (t < T) heard = heard.map((sum, k) => inputs[t].reduce((more, i) => more + adds(k, i), sum));
        const potential = ramp ? before.map((V, k) => V + earlier[k]) : heard, was = before;
        potential.forEach((V, k) => {
          if (answer[k] < NEVER || V <= threshold[k]) return;
          answer[k] = 256 * (t - 1) + Math.floor((256 * (threshold[k] - was[k])) / (V - was[k]));
        });
        rising.push(potential);
        before = potential;
      }
      const crossed = firstLargest(answer.map((time) => -time));
      const best = answer[crossed] < NEVER ? crossed : firstLargest(Array.from(before, (V, k) => V - threshold[k]));
      return { answer, decision: some ? Math.floor(best / each) : -1, rising };
    },
  };

  // ---- An image ----

  function read(buffer) {
    const model = readFile(buffer);
    for (const { layer } of model.stages) layer.laid = laidOut(layer);
    return model;
  }

  function trace({ T, image: size, encoder, stages, decision }, image) {
    need(image.length === product(size), `an image has ${product(size)} bytes, and not ${image.length}`);
    const parts = [];
    const keep = (name, { shape }, times, more) => {
      parts.push({ name, shape, times, ...more });
      return times;
    };
    const encoded = encoder.reduce((values, part) => ENCODE[part.op](values, part, T), image);
    let times = keep("encoder", encoder.at(-1), encoded), fired = null;
    stages.forEach(({ layer, inhibit, pool, shortcut }, n) => {
      const given = times, name = `stage ${n + 1}`;
      fired = fire(layer, given, T);
      times = keep(`${name} layer`, layer, fired.times, fired);
      if (inhibit) times = keep(`${name} inhibited`, layer, inhibited(fired, layer.shape, T));
      if (pool) times = keep(`${name} pool`, pool, pooled(times, pool, T));
      const beside = shortcut ? keep(`${name} shortcut`, shortcut, pooled(given, shortcut, T)) : [];
      times = Uint8Array.from([...times, ...beside]);
    });
    return { parts, ...DECIDE[decision.op](decision, times, times.some((t) => t < T), fired, T) };
  }

  // The bytes of a trace: times, then the answer and the decision in 32 bits.
  const bytes = ({ parts, answer, decision }) =>
    [...parts.map(({ times }) => times), new Uint8Array(Int32Array.of(...answer, decision).buffer)];

  return { read, trace, bytes };
})();

if (typeof module === "object") module.exports = spyketorch;
if (typeof module === "object" && require.main === module) {
  const fs = require("fs"), file = fs.readFileSync(process.argv[2]), given = fs.readFileSync(0);
  try {
    const model = spyketorch.read(file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength));
    const size = model.image.reduce((a, b) => a * b), count = given.length / size;
    if (!Number.isInteger(count)) throw new Error(`${given.length} bytes are no images of ${size} bytes each`);
    for (let n = 0; n < count; n++) {
      const image = given.subarray(n * size, (n + 1) * size);
      process.stdout.write(Buffer.concat(spyketorch.bytes(spyketorch.trace(model, image))));
    }
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
