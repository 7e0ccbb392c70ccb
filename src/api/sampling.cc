// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "decant/sampling.h"

#include "api/impl.h"

namespace decant {

Result<SamplerOptions> sampler_options(const Sampling& sampling, const Tokenizer& tokenizer,
                                       const std::vector<TokenId>& end_tokens, int context) {
  SamplerOptions o;
  o.seed = sampling.seed;
  o.temperature = sampling.temperature;
  o.dynatemp_range = sampling.dynatemp_range;
  o.dynatemp_exponent = sampling.dynatemp_exponent;
  o.top_k = sampling.top_k;
  o.top_p = sampling.top_p;
  o.min_p = sampling.min_p;
  o.typical_p = sampling.typical_p;
  o.top_n_sigma = sampling.top_n_sigma;
  o.xtc_probability = sampling.xtc_probability;
  o.xtc_threshold = sampling.xtc_threshold;
  o.min_keep = sampling.min_keep;
  o.repeat_last_n = sampling.repeat_last_n;
  o.repeat_penalty = sampling.repeat_penalty;
  o.presence_penalty = sampling.presence_penalty;
  o.frequency_penalty = sampling.frequency_penalty;
  o.dry_multiplier = sampling.dry_multiplier;
  o.dry_base = sampling.dry_base;
  o.dry_allowed_length = sampling.dry_allowed_length;
  o.dry_penalty_last_n = sampling.dry_penalty_last_n;
  if (sampling.dry_multiplier > 0) {
    for (const std::string& text : sampling.dry_breakers) {
      DECANT_TRY(std::vector<TokenId> tokens, tokenizer.encode(text, {.add_special = false}));
      if (!tokens.empty()) o.dry_breakers.push_back(std::move(tokens));
    }
  }
  o.mirostat = sampling.mirostat;
  o.mirostat_tau = sampling.mirostat_tau;
  o.mirostat_eta = sampling.mirostat_eta;
  o.logit_bias = sampling.logit_bias;
  o.ignore_eos = sampling.ignore_eos;
  o.end_tokens = end_tokens;
  o.n_ctx = context;
  o.samplers = sampling.samplers;
  return o;
}

SampledToken sampled_token(Draw draw) {
  SampledToken token{.token = draw.token, .logprob = draw.logprob, .surprise = draw.surprise};
  token.top.reserve(draw.top.size());
  for (const TokenLogprob& t : draw.top) token.top.push_back({.token = t.token, .logprob = t.logprob});
  return token;
}

TokenSampler::TokenSampler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TokenSampler::TokenSampler(const TokenSampler& other)
    : impl_(other.impl_ ? std::make_unique<Impl>(*other.impl_) : nullptr) {}
TokenSampler::TokenSampler(TokenSampler&&) noexcept = default;
TokenSampler& TokenSampler::operator=(const TokenSampler& other) {
  if (this != &other) impl_ = other.impl_ ? std::make_unique<Impl>(*other.impl_) : nullptr;
  return *this;
}
TokenSampler& TokenSampler::operator=(TokenSampler&&) noexcept = default;
TokenSampler::~TokenSampler() = default;

Result<TokenSampler> TokenSampler::create(const Session& session, const Sampling& sampling,
                                          std::span<const TokenId> prompt) {
  return guarded([&]() -> Result<TokenSampler> {
    const LanguageModel::Impl& model = *session.impl_->model.impl_;
    DECANT_TRY(SamplerOptions options,
               sampler_options(sampling, *model.tokenizer, model.end_tokens, session.context()));
    DECANT_TRY(Sampler sampler, Sampler::create(std::move(options), model.info.vocab_size));
    for (const TokenId t : prompt) {
      if (t < 0 || t >= model.info.vocab_size) {
        return Status::invalid_argument("the prompt's token {} is not in the vocabulary of {}", t,
                                        model.info.vocab_size);
      }
    }
    auto impl = std::make_unique<Impl>();
    impl->state = sampler.start(prompt);
    impl->sampler = std::make_shared<const Sampler>(std::move(sampler));
    impl->vocab_size = model.info.vocab_size;
    impl->sample = sampling.sample;
    impl->position = static_cast<uint32_t>(prompt.size());
    return TokenSampler(std::move(impl));
  });
}

Result<SampledToken> TokenSampler::sample(std::span<const float> logits, int logprobs) const {
  return guarded([&]() -> Result<SampledToken> {
    if (logits.size() != static_cast<size_t>(impl_->vocab_size)) {
      return Status::invalid_argument("sample: {} logits, the vocabulary has {} tokens", logits.size(),
                                      impl_->vocab_size);
    }
    if (logprobs < -1) return Status::invalid_argument("sample: logprobs {}: expected -1 or more", logprobs);
    DECANT_TRY(Draw draw, impl_->sampler->draw(logits, impl_->state, impl_->position, impl_->sample, logprobs));
    return sampled_token(std::move(draw));
  });
}

Status TokenSampler::accept(const SampledToken& token) {
  return guarded([&]() -> Status {
    if (token.token < 0 || token.token >= impl_->vocab_size) {
      return Status::invalid_argument("accept: token {} is not in the vocabulary of {}", token.token,
                                      impl_->vocab_size);
    }
    impl_->state = impl_->sampler->advance(impl_->state, Draw{.token = token.token, .surprise = token.surprise});
    ++impl_->position;
    return {};
  });
}

Status TokenSampler::accept(TokenId token) {
  return guarded([&]() -> Status {
    if (token < 0 || token >= impl_->vocab_size) {
      return Status::invalid_argument("accept: token {} is not in the vocabulary of {}", token, impl_->vocab_size);
    }
    impl_->state = impl_->sampler->advance(impl_->state, token);
    ++impl_->position;
    return {};
  });
}

}  // namespace decant
