/* Whether a table can be trusted: behind spyketorch.h. The file of the network was looked at when the table was made;
   this looks again at what its numbers are used for: sums have their range, and maps lie in the memory reserved. */

static int32_t spk_weight_of(const spk_synapses *s, int32_t input, int32_t neuron) {
#if SPK_PACKED
    int32_t at = neuron * s->bits, mask = (1 << s->bits) - 1, half = s->is_signed << (s->bits - 1);
    return ((s->weight[input * (s->lanes * s->bits / 8) + at / 8] >> at % 8 & mask) ^ half) - half;
#else
    return s->weight[input * s->lanes + neuron];
#endif
}

/* Neurons have their room, and their sums, times `times` and with a bias, have the range that is promised. */
static int32_t spk_proven(const spk_synapses *s, int32_t times, const int32_t *bias, int32_t room) {
    int64_t low = INT64_MAX, high = INT64_MIN;
    if (s->neurons > s->lanes || s->lanes % SPK_LANES || s->groups * s->lanes > room) return 0;
    if (s->inputs > SPK_LISTED) return 0;
    for (int32_t g = 0; g < s->groups; g++)
        for (int32_t k = 0; k < s->neurons; k++) {
            int64_t ends[2] = {bias ? bias[k] : 0, bias ? bias[k] : 0};
            for (int32_t i = g * s->inputs; i < (g + 1) * s->inputs; i++) {
                int32_t n = spk_weight_of(s, i, k);
                ends[n > 0] += (int64_t)n * times;
            }
            low = ends[0] < low ? ends[0] : low;
            high = ends[1] > high ? ends[1] : high;
        }
    return low == s->low && high == s->high;
}

static int32_t spk_fits(spk_shape from, const spk_window *w, spk_shape made) {
    int32_t rows = from.rows + 2 * w->padding[0] - (w->rows - 1) * w->dilation[0] - 1;
    int32_t columns = from.columns + 2 * w->padding[1] - (w->columns - 1) * w->dilation[1] - 1;
    return made.rows == rows / w->stride[0] + 1 && made.columns == columns / w->stride[1] + 1;
}

static inline const char *spk_refuse(void) {
    const int64_t most = sizeof(spk_potential) == 2 ? INT16_MAX : 1 << 24;
    spk_shape from = {SPK_IMAGE_SHAPE};
    int32_t words = spk_size(from), needed = words;
    for (const spk_part *p = spk_parts; p < spk_parts + SPK_PARTS; p++) {
        int32_t made = p->op < SPK_RANK ? spk_size(p->out) : spk_words(p->out);
        int32_t both = words + made + (p->op == SPK_RANK ? 2 * spk_size(from) : 0);
        needed = both > needed ? both : needed;
        words = made;
        from = p->out;
    }
    for (const spk_stage *s = spk_stages; s < spk_stages + SPK_DEPTH; s++) {
        int32_t both = spk_words(from) + spk_words(s->out) + (s->keep ? spk_words(s->layer) : 0);
        needed = both > needed ? both : needed;
        if (s->synapses.groups * s->synapses.inputs != s->window.rows * s->window.columns * from.maps ||
            s->synapses.groups * s->synapses.neurons != s->layer.maps || !spk_fits(from, &s->window, s->layer) ||
            !spk_fits(s->layer, &s->pool.window, s->out))
            return "a layer of this table does not fit the maps that it reads";
        if (!spk_proven(&s->synapses, 1, 0, SPK_WIDTH) || s->synapses.low < -most || s->synapses.high > most)
            return "the weights of a layer of this table have other sums than were promised";
        from = s->out;
    }
    const int32_t op = spk_decision.op, times = op == SPK_RAMP ? 4 * SPK_STEPS : op == SPK_LINEAR ? SPK_STEPS : 1;
    const int32_t *bias = op == SPK_LINEAR ? spk_decision.value : 0;
    if (op != SPK_WINNER && !spk_proven(&spk_decision.synapses, times, bias, SPK_NEURONS))
        return "the weights of the decision of this table have other sums than were promised";
    if (op != SPK_WINNER && spk_decision.synapses.inputs != spk_size(from))
        return "the decision of this table does not fit the maps that it reads";
    return needed > SPK_MEMORY ? "the maps of this table do not fit into its memory" : 0;
}
