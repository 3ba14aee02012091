// The file of a network of integers, as docs/integer.md has it: read, and refused where it cannot be trusted.
//   const model = spyketorchReading.read(arrayBuffer)   throws an Error of one sentence
// A description is gone through as an image goes through the network, with the shapes of maps and the largest values
// alone, so that nothing is computed, and no memory taken, for a file that promises too much. What comes out are the
// parts of the description with what was found: the shapes of maps, `given` and `shape`, and tensors instead of names.
"use strict";

const spyketorchReading = (() => {
  const WORD = 2 ** 31 - 1, PLACES = 2 ** 24, SYNAPSES = 2 ** 28;
  const product = (numbers) => numbers.reduce((a, b) => a * b, 1);
  const range = (count) => Array.from({ length: count }, (_, i) => i);

  class Refused extends Error {}

  function need(holds, why) {
    if (!holds) throw new Refused(`this is no network of integers that can be trusted: ${why}`);
  }

  function whole(value, what, least, most = WORD) {
    need(Number.isInteger(value) && value >= least && value <= most, `${what} is no integer of ${least} .. ${most}`);
    return value;
  }

  function wholes(list, what, length, least, most) {
    need(Array.isArray(list) && list.length === length, `${what} is no list of ${length} integers`);
    return list.map((value) => whole(value, what, least, most));
  }

  function flag(value, what) {
    need(typeof value === "boolean", `${what} is neither true nor false`);
    return value;
  }

  function maps(...shape) {
    need(Math.min(...shape) >= 1 && product(shape) <= PLACES, `maps of ${shape.join(" x ")} places`);
    return shape;
  }

  function crc32(bytes) {
    const table = range(256).map((n) => range(8).reduce((c) => (c & 1 ? 0xedb88320 : 0) ^ (c >>> 1), n));
    return ~bytes.reduce((crc, byte) => table[(crc ^ byte) & 255] ^ (crc >>> 8), -1) >>> 0;
  }

  // The description, and functions that give tensors, on machines whose least significant byte is the first.
  function opened(buffer) {
    const types = { U8: Uint8Array, I8: Int8Array, I32: Int32Array }, size = buffer.byteLength;
    const start = size < 8 ? Infinity : 8 + Number(new DataView(buffer).getBigUint64(0, true));
    need(start <= size, "it ends within its header");
    const { __metadata__, ...tensors } = JSON.parse(new TextDecoder().decode(buffer.slice(8, start)));
    const about = JSON.parse(__metadata__.spyketorch);
    const ends = Object.values(tensors).map((said) => said.data_offsets[1]);
    need(about.format === "spyketorch integer network" && about.version === 1, "its format or version is not known");
    need(Math.max(0, ...ends) === size - start, "it is cut off, or goes on too long");
    need(crc32(new Uint8Array(buffer, start)) === about.crc32, "its data are damaged (crc32)");

    function tensor(name, type, fits) {
      need(Object.hasOwn(tensors, name), `its tensor ${name} is missing`);
      const { dtype, shape, data_offsets: [from, to] } = tensors[name];
      need(dtype === type && fits(shape), `its tensor ${name}, ${dtype} of (${shape}), does not fit`);
      const bytes = product(shape) * types[type].BYTES_PER_ELEMENT;
      need(from >= 0 && to - from === bytes, `its tensor ${name} does not have ${bytes} bytes`);
      return Object.assign(new types[type](buffer.slice(start + from, start + to)), { shape });
    }

    const list = (name, length, type = "I32") =>
      tensor(name, type, (shape) => shape.length === 1 && shape[0] === length);
    return { about, tensor, list };
  }

  // Weights in flat order. `range` is that of sums of a neuron's, so many `times` over, and with its bias.
  function weightsOf({ shape, bits, signed, weight: name, range: said }, file, times = 1, bias = []) {
    need([1, 2, 4, 8].includes(bits), "its weights have other bits than 1, 2, 4 or 8");
    const count = product(shape), each = 8 / bits, all = 2 ** bits, top = flag(signed, "signed") ? all / 2 : all;
    const packed = file.list(name, Math.ceil(count / each), "U8"), weight = new Int16Array(count);
    need(count % each === 0 || packed.at(-1) < 2 ** ((count % each) * bits), "unused bits of weights are set");
    let [least, most] = [Infinity, -Infinity];
    for (let f = 0, i = 0; f < shape[0]; f++) {
      let low = 0, high = 0;
      for (const end = i + count / shape[0]; i < end; i++) {
        const n = (packed[Math.floor(i / each)] >> ((i % each) * bits)) & (all - 1);
        weight[i] = n < top ? n : n - all;
        if (n < top) high += n; else low += n - all;
      }
      least = Math.min(least, low * times + (bias[f] ?? 0));
      most = Math.max(most, high * times + (bias[f] ?? 0));
    }
    need(String(said) === `${least},${most}`, `sums of the range ${least} .. ${most} are said to have ${said}`);
    need(least >= -WORD - 1 && most <= WORD, "sums leave 32 bits");
    return { weight, least, most };
  }

  // ---- The encoder: `bound` is what no absolute value exceeds; where `signed`, values may be below 0 ----

  // What gives times by values: the largest, of each place or of many.
  function timed(part, { shape, signed }, file, T) {
    need(!signed, "values below 0 are put into time");
    const fits = (sides) => sides.length === 3 && sides.every((side, axis) => side === 1 || side === shape[axis]);
    const largest = file.tensor(part.largest, "I32", fits);
    need(largest.every((value) => value >= 0 && value * T <= WORD), "largest values leave 32 bits");
    return { largest };
  }

  const ENCODER = {
    pad(part, { shape: [count, rows, columns] }) {
      const [top, bottom, left, right] = ["top", "bottom", "left", "right"].map((side) => whole(part[side], side, 0));
      flag(part.edge, "edge");
      return { shape: [count, rows + top + bottom, columns + left + right] };
    },
    filter(part, { shape: [C, rows, columns], bound, signed }, file) {
      const fits = (sides) => sides.length === 4 && Math.min(...sides) > 0 && [1, C].includes(sides[1]);
      const weight = file.tensor(part.weight, "I8", fits), [K, D, high, wide] = weight.shape, one = D * high * wide;
      const threshold = file.list(part.threshold, K), absolute = flag(part.absolute, "absolute");
      const strength = (k) => weight.subarray(k * one, (k + 1) * one).reduce((sum, w) => sum + Math.abs(w), 0);
      const below = (signed || weight.some((w) => w < 0)) && threshold.some((value) => value < 0) && !absolute;
      const shape = [(K * C) / D, rows - high + 1, columns - wide + 1];
      return { weight, threshold, shape, bound: bound * Math.max(...range(K).map(strength)), signed: below };
    },
    onoff(part, { shape: [count, rows, columns] }) {
      return { shape: [2 * count, rows, columns], signed: false };
    },
    normalise(part, { bound, signed }) {
      const radius = whole(part.radius, "radius", 0, 127), shift = whole(part.shift, "shift", 0, 20);
      need(!signed, "values below 0 are normalised");
      need(bound * (2 * radius + 1) ** 2 <= WORD, "sums leave 32 bits");
      return { bound: 2 ** shift };
    },
    rank(part, { signed }) {
      need(!signed, "values below 0 are ranked");
      return {};
    },
    latency: timed,
    table(part, given, file, T) {
      const limits = file.list(part.limits, T - 1), steps = [2 ** 20, ...limits, 0];
      need(steps.every((limit, j) => j === 0 || limit <= steps[j - 1]), "limits that rise, or leave 0 .. 2^20");
      return { ...timed(part, given, file, T), limits };
    },
  };

  function encoderOf(parts, image, file, T) {
    let given = { shape: image, bound: 255, signed: false };
    need(parts.length > 0, "it has no encoder");
    return parts.map((part, n) => {
      const isLast = n === parts.length - 1, givesTimes = ["rank", "latency", "table"].includes(part.op);
      need(Object.hasOwn(ENCODER, part.op) && givesTimes === isLast, `its encoder has ${part.op} in the wrong place`);
      const found = { ...given, ...ENCODER[part.op](part, given, file, T) }, before = given.shape;
      need(found.bound <= WORD, "values leave 32 bits");
      maps(...found.shape);
      given = found;
      return { ...part, ...found, given: before };
    });
  }

  // ---- Stages ----

  function windows(said, given, count, kernel, dilation = [1, 1]) {
    const stride = wholes(said.stride, "stride", 2, 1), padding = wholes(said.padding, "padding", 2, 0);
    const around = given.slice(1).map((side, a) => side + 2 * padding[a]);
    const steps = around.map((side, a) => Math.floor((side - (kernel[a] - 1) * dilation[a] - 1) / stride[a]));
    maps(count, ...around);
    return { given, shape: maps(count, ...steps.map((n) => n + 1)), kernel, stride, padding, dilation };
  }

  function layerOf(said, given, file) {
    const [F, D, ...kernel] = wholes(said.shape, "the shape of weights", 4, 1);
    const groups = whole(said.groups, "groups", 1);
    need(F % groups === 0 && D * groups === given[0], `${groups} groups of ${F} features and ${given[0]} maps`);
    const layer = windows(said, given, F, kernel, wholes(said.dilation, "dilation", 2, 1));
    need(product(layer.shape) * D * product(kernel) <= SYNAPSES, "a layer of too many synapses");
    const { weight, least, most } = weightsOf(said, file);
    need(least >= -PLACES && most <= PLACES, "potentials leave 24 bits");
    const threshold = said.threshold === null ? null : file.list(said.threshold, F);
    need(threshold === null || threshold.every((value) => value >= 0), "thresholds of a layer that are below 0");
    return { ...layer, groups, weight, threshold };
  }

  function poolOf(said, given) {
    const pool = windows(said, given, given[0], wholes(said.kernel, "kernel", 2, 1)), { kernel, padding } = pool;
    need(kernel.every((side, a) => 2 * padding[a] <= side), "a pool with more padding than half of it");
    const fewest = product(kernel.map((side, a) => Math.min(side - padding[a], given[a + 1])));
    return { ...pool, earliest: whole(said.earliest, "earliest", 1, Math.max(1, fewest)) };
  }

  function stageOf(said, given, file) {
    const layer = layerOf(said.layer, given, file), inhibit = flag(said.inhibit, "inhibit");
    const pool = said.pool === null ? null : poolOf(said.pool, layer.shape), [F, ...places] = (pool ?? layer).shape;
    const shortcut = said.shortcut === null ? null : poolOf(said.shortcut, given);
    const [more, ...beside] = shortcut === null ? [0, ...places] : shortcut.shape;
    need(String(beside) === String(places), `a shortcut of ${beside} places beside ${places}`);
    return { layer, inhibit, pool, shortcut, shape: maps(F + more, ...places) };
  }

  // ---- The decision ----

  function hearing(said, given) {
    const [neurons, inputs] = wholes(said.shape, "the shape of weights", 2, 1);
    need(inputs === product(given), `a decision that hears ${inputs} inputs, of ${product(given)}`);
    need(neurons * inputs <= SYNAPSES, "a decision of too many synapses");
    return neurons;
  }

  const DECISION = {
    winner(said, given, file, T, stages) {
      const classes = wholes(said.classes, "classes", given[0], -1), { pool, shortcut } = stages.at(-1);
      need(pool === null && shortcut === null, "neurons that vote behind a pool");
      return { classes };
    },
    linear(said, given, file, T) {
      const bias = file.list(said.bias, hearing(said, given));
      return { bias, ...weightsOf(said, file, T, bias) };
    },
    "first spike"(said, given, file, T) {
      const neurons = hearing(said, given), each = whole(said.per_class, "per_class", 1);
      const threshold = file.list(said.threshold, neurons), ramp = flag(said.ramp, "ramp");
      need(neurons % each === 0, `${neurons} neurons, ${each} of each class`);
      need(threshold.every((value) => value >= 0), "thresholds of a decision that are below 0");
      return { threshold, ...weightsOf(said, file, ramp ? 4 * T : 1) };
    },
  };

  function network({ about, ...file }) {
    const T = whole(about.time_steps, "time_steps", 1, 254), image = maps(...wholes(about.image, "image", 3, -WORD));
    const encoder = encoderOf(about.encoder, image, file, T);
    let { shape } = encoder.at(-1);
    const stages = about.stages.map((said) => {
      const stage = stageOf(said, shape, file);
      ({ shape } = stage);
      return stage;
    });
    const { op } = about.decision;
    need(Object.hasOwn(DECISION, op), `it decides by ${op}`);
    const decision = { ...about.decision, given: shape, ...DECISION[op](about.decision, shape, file, T, stages) };
    const { names } = about;
    need(names === null || names.every((name) => typeof name === "string"), "names of classes that are none");
    return { T, image, names, encoder, stages, decision };
  }

  function read(buffer) {
    try {
      return network(opened(buffer));
    } catch (error) {
      if (error instanceof Refused) throw error;
      throw new Refused(`this is no network of integers that can be read: ${error.message}`);
    }
  }

  return { read, need, product };
})();

if (typeof module === "object") module.exports = spyketorchReading;
