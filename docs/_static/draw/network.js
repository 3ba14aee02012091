// The network of model.js, what its features look for, and what there is to show of what it makes of an image.
"use strict";

const network = (() => {
  const model = spyketorch.read(Uint8Array.from(atob(digitsModel), (letter) => letter.charCodeAt(0)).buffer);
  const { T, decision: { threshold, per_class: each } } = model, { layer } = model.stages[0];
  const [F, rows, columns] = layer.shape, places = rows * columns;
  const classes = threshold.length / each, NEVER = 2 ** 31 - 1;
  const range = (count) => Array.from({ length: count }, (_, i) => i);
  const nameOf = (c) => model.names?.[c] ?? String(c);

  // What feature f looks for: the kernels of the cells that it hears, by its weights, -1 .. 1; above 0 is ink. All
  // kernels count alike, as each cell fires by its share of the most that it was ever given.
  const { weight: kernels } = model.encoder.findLast(({ op }) => op === "filter");
  const [K, , high, wide] = kernels.shape, [down, across] = layer.kernel, heard = layer.weight.length / F;
  const size = [down + high - 1, across + wide - 1];  // of these pictures
  const strength = range(K).map((k) => kernels.subarray(k * high * wide, (k + 1) * high * wide))
    .map((kernel) => kernel.reduce((sum, weight) => sum + Math.abs(weight), 0));

  function pictureOf(f) {
    const picture = new Float32Array(size[0] * size[1]);
    for (let n = 0; n < heard; n++) {
      const k = Math.floor(n / (down * across)) % K, y = Math.floor(n / across) % down, x = n % across;
      for (let i = 0; i < high; i++) {
        for (let j = 0; j < wide; j++) {
          const adds = layer.weight[f * heard + n] * kernels[(k * high + i) * wide + j];
          picture[(y + i) * size[1] + x + j] += adds / strength[k];
        }
      }
    }
    const most = picture.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9);
    return picture.map((value) => value / most);
  }

  // Of the neurons of the layer from, from + step, ... below `to`: the one to fire first.
  function first({ times, potentials }, from, step, to) {
    let best = from;
    for (let i = from; i < to; i += step) {
      if (times[i] < times[best] || (times[i] === times[best] && potentials[i] > potentials[best])) best = i;
    }
    return best;
  }

  // Of each class the quickest neuron, when it crosses its threshold, and the classes in that order. share(k, t) is how
  // far neuron k has come from 0 to its threshold at the end of step t.
  function raceOf({ answer, rising, decision }) {
    const missing = (k) => threshold[k] - rising.at(-1)[k];
    const quicker = (a, b) => (answer[b] < answer[a] || (answer[b] === answer[a] && missing(b) < missing(a)) ? b : a);
    const quickest = range(classes).map((c) => range(each).map((n) => c * each + n).reduce(quicker));
    const times = quickest.map((k) => (answer[k] < NEVER ? answer[k] / 256 : Infinity));
    const before = (a, b) => (times[a] === times[b] ? (b === decision) - (a === decision) : times[a] - times[b]);
    return { quickest, times, order: range(classes).sort(before), share: (k, t) => rising[t][k] / threshold[k] };
  }

  // All that is shown of an image: what the runtime gives (`seen`); of each feature and of each place the neuron to
  // fire first; the race; and the last step that is worth a look.
  function look(image) {
    const seen = spyketorch.trace(model, image), race = raceOf(seen), [, found] = seen.parts;
    const ofFeature = range(F).map((f) => first(found, f * places, 1, (f + 1) * places));
    const ofPlace = range(places).map((place) => first(found, place, places, F * places));
    const last = seen.rising.length - 1, winner = Math.ceil(race.times[race.order[0]]) + 4;
    const end = seen.decision < 0 ? T : Math.min(last, Math.max(T, winner));
    return { image, seen, race, ofFeature, ofPlace, end };
  }

  const pictures = range(F).map(pictureOf);
  return { model, T, F, rows, columns, places, classes, each, size, pictures, look, nameOf, range };
})();
