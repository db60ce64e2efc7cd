// Stands inside ggml's ops.cpp, where each thread takes a part of the cache for one token: heads that
// share keys and values are computed together. Part of Snugly (Apache-2.0).

#ifdef SNUGLY_LOOKS
            float scale = 1.0f, max_bias = 0.0f, softcap = 0.0f;
            memcpy(&scale, (float *) dst->op_params + 0, sizeof(float));
            memcpy(&max_bias, (float *) dst->op_params + 1, sizeof(float));
            memcpy(&softcap, (float *) dst->op_params + 2, sizeof(float));
            const ggml_tensor * mask = dst->src[3];
            bool is_done = k->type == GGML_TYPE_F16 && DK == DV && nek2 == nev2 && !dst->src[4] &&
                max_bias == 0.0f && softcap == 0.0f;
            const int64_t shared = neq2 / nek2;
            for (int64_t at = ic_start; at < ic_end; at += snugly::kStretch) {
                for (int64_t head = 0; is_done && head < neq2;) {
                    const int64_t of = head / shared;
                    const int count = (int) std::min<int64_t>((of + 1) * shared - head, snugly::kLooks);
                    snugly::Look looks[snugly::kLooks];
                    for (int one = 0; one < count; ++one, ++head) {
                        float * partial = chunk_partials + head * partial_stride;
                        const char * seen = mask ? (const char *) mask->data + (head % mask->ne[2]) * mask->nb[2] : nullptr;
                        looks[one] = {(const float *) ((const char *) q->data + head * nbq2), (const uint16_t *) seen,
                                      1.0f, partial, partial + 1, partial + 2};
                    }
                    is_done = snugly::looked(DK, looks, count, (const char *) k->data + of * nbk2, nbk1,
                                             (const char *) v->data + of * nbv2, nbv1, scale, at,
                                             std::min(at + snugly::kStretch, ic_end), at > ic_start);
                }
            }
            if (!is_done)
#endif
