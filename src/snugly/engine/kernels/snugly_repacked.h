// Stands inside ggml's repack.cpp, in the product of weights that were stored eight rows by eight:
// with many columns they are multiplied as panels. Part of Snugly (Apache-2.0).

#ifdef SNUGLY_PANELS
        if constexpr (std::is_same<BLOC_TYPE, block_q4_K>::value && INTER_SIZE == 8 && NB_COLS == 8 &&
                      PARAM_TYPE == GGML_TYPE_Q8_K) {
            if (ne11 >= snugly::kLeastColumns && ne02 == 1 && ne12 == 1) {
                for (int64_t row = ith; row < ne11; row += nth) {
                    from_float((float *) ((char *) src1->data + row * nb11), wdata + row * nbw1, ne10);
                }
                ggml_barrier(params->threadpool);
                snugly::product(snugly::Interleaved{(const char *) src0->data}, ne01, ne11, ne00 / 32,
                                (const block_q8_K *) wdata, ne10 / QK_K, (float *) dst->data,
                                nb1 / sizeof(float), ith, nth);
                return;
            }
        }
#endif
