// The search behind beam_search and decoder_search, with their arguments checked.
#pragma once

#include "decoder/inputs.h"

namespace s2s::cpu {

// parts: what the decoder has beyond a plain one, or null.
Four run_search(const SearchArguments& in, const decoder::Inputs* parts, const OptionalTensor& lengths,
                const OptionalTensor& mask, const SearchOptions& options, bool return_weights);

}  // namespace s2s::cpu
