// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "decant/model.h"

#include <cmath>

#include "api/impl.h"
#include "formats/gguf.h"
#include "kernels/cuda_device.h"
#include "kernels/device.h"
#include "kernels/table.h"
#include "model/checkpoint.h"
#include "model/config.h"

namespace decant {
namespace {

Result<std::unique_ptr<Device>> make_device(const LoadOptions& options) {
  if (options.device == "cuda") {
    if (!options.kernels.empty() && options.kernels != "cuda") {
      return Status::invalid_argument("LoadOptions::kernels: the cuda device has only the table cuda, not '{}'",
                                      options.kernels);
    }
    return make_cuda_device();
  }
  if (options.device != "cpu") {
    return Status::invalid_argument("LoadOptions::device: expected cpu or cuda, got '{}'", options.device);
  }
  if (options.threads < 0 || options.threads > 256) {
    return Status::invalid_argument("LoadOptions::threads: expected 0 to 256, got {}", options.threads);
  }
  return make_cpu_device(options.threads, options.kernels);
}

}  // namespace

LanguageModel::LanguageModel(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
LanguageModel::LanguageModel(const LanguageModel&) = default;
LanguageModel::LanguageModel(LanguageModel&&) noexcept = default;
LanguageModel& LanguageModel::operator=(const LanguageModel&) = default;
LanguageModel& LanguageModel::operator=(LanguageModel&&) noexcept = default;
LanguageModel::~LanguageModel() = default;

Result<LanguageModel> LanguageModel::load(const std::string& path, const LoadOptions& options) {
  return guarded([&]() -> Result<LanguageModel> {
    auto impl = std::make_shared<Impl>();
    DECANT_TRY(impl->device, make_device(options));
    DECANT_TRY(const GgufFile file, open_model(path));
    DECANT_TRY_STATUS(read_config(file).status());  // before anything that takes long
    DECANT_TRY(impl->tokenizer, Tokenizer::from_gguf(file));
    const Tokenizer& tokenizer = *impl->tokenizer;
    Result<std::unique_ptr<ChatTemplate>> chat_template = ChatTemplate::from_tokenizer(tokenizer);
    if (!chat_template.ok()) {
      // Such a model still completes text.
      impl->chat_template_status = std::move(chat_template).status();
    } else {
      impl->chat_template = std::move(chat_template).value();
      if (impl->chat_template == nullptr) {
        impl->chat_template_status = Status::unsupported("{}: the model has no chat template (a base model)", path);
      }
    }
    Status thrown;
    Model::Progress progress;
    if (options.on_progress) {
      progress = [&](double share) {
        if (!thrown.ok()) return;
        try {
          options.on_progress(share);
        } catch (...) {
          thrown = current_exception_status().with_context("LoadOptions::on_progress");
        }
      };
    }
    DECANT_TRY(impl->model, Model::load(file, *impl->device, progress));
    if (progress) progress(1.0);
    DECANT_TRY_STATUS(thrown);
    for (TokenId t = 0; t < tokenizer.vocab_size(); ++t) {
      if (tokenizer.is_end(t)) impl->end_tokens.push_back(t);
    }
    const ModelConfig& config = impl->model->config();
    impl->info = {.path = path,
                  .architecture = config.architecture,
                  .name = config.name,
                  .layers = config.n_layers(),
                  .hidden = config.hidden,
                  .vocab_size = config.vocab_size,
                  .context_length = config.context_length,
                  .weight_bytes = impl->model->weight_bytes(),
                  .bos = tokenizer.bos(),
                  .eos = tokenizer.eos(),
                  .device = std::string(impl->device->kind()),
                  .kernels = std::string(impl->device->table().name),
                  .threads = impl->device->threads()};
    return LanguageModel(std::move(impl));
  });
}

const ModelInfo& LanguageModel::info() const { return impl_->info; }

Result<std::vector<TokenId>> LanguageModel::tokenize(std::string_view text, const TokenizeOptions& options) const {
  return guarded([&] {
    return impl_->tokenizer->encode(text, {.add_special = options.add_special, .parse_special = options.parse_special});
  });
}

std::string LanguageModel::detokenize(std::span<const TokenId> tokens, bool special) const {
  return impl_->tokenizer->decode(tokens, special);
}

std::string_view LanguageModel::token_bytes(TokenId token) const { return impl_->tokenizer->piece(token, true); }

bool LanguageModel::is_end(TokenId token) const {
  return token >= 0 && token < impl_->tokenizer->vocab_size() && impl_->tokenizer->is_end(token);
}

Result<Adapter> Adapter::load(const LanguageModel& model, const std::string& path, float scale) {
  return guarded([&]() -> Result<Adapter> {
    if (!std::isfinite(scale)) return Status::invalid_argument("adapter {}: the scale is not a number", path);
    auto impl = std::make_shared<Impl>();
    impl->model = model.impl_;
    DECANT_TRY(impl->overlay, Overlay::load_lora(path, model.impl_->model, scale));
    return Adapter(std::shared_ptr<const Impl>(std::move(impl)));
  });
}

const std::string& Adapter::path() const { return impl_->overlay->name(); }

bool LanguageModel::has_chat_template() const { return impl_->chat_template != nullptr; }

Result<std::vector<TokenId>> LanguageModel::chat_prompt(const std::vector<Message>& messages) const {
  return guarded([&]() -> Result<std::vector<TokenId>> {
    DECANT_TRY_STATUS(impl_->chat_template_status);
    std::vector<ChatMessage> turns;
    turns.reserve(messages.size());
    for (const Message& m : messages) turns.push_back({.role = m.role, .content = m.content});
    return impl_->chat_template->encode(turns, true);
  });
}

}  // namespace decant
