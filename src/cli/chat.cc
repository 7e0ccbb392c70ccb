// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "cli/common.h"
#include "cli/session.h"

namespace decant::cli {
namespace {

constexpr std::string_view kHelp =
    "/help            this list\n"
    "/clear           forget the conversation\n"
    "/system TEXT     set the system message and start anew; without TEXT: none\n"
    "/undo            forget the last question and its answer\n"
    "/retry           answer the last question again\n"
    "/quit            leave (or Ctrl-D)\n"
    "A line that ends with \\ goes on in the next one; \"\"\" on lines of their own enclose a text of several lines.\n"
    "Ctrl-C ends an answer.\n";

enum class Input { kLine, kEnd, kInterrupted };

// Lines of stdin, read without a buffer of the C library, so that Ctrl-C is noticed while waiting.
class LineReader {
 public:
  Input next(std::string* line) {
    const InterruptFlag interrupt;
    for (;;) {
      const size_t end = buffer_.find('\n', searched_);
      if (end != std::string::npos) {
        line->assign(buffer_, 0, end);
        buffer_.erase(0, end + 1);
        searched_ = 0;
        if (!line->empty() && line->back() == '\r') line->pop_back();
        return Input::kLine;
      }
      searched_ = buffer_.size();
      // poll, not read: a signal that came just before would be missed by a read that blocks.
      pollfd entry{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
      const int ready = ::poll(&entry, 1, 100);
      if (interrupt.raised()) {
        buffer_.clear();
        searched_ = 0;
        return Input::kInterrupted;
      }
      if (ready <= 0) continue;
      std::array<char, 4096> bytes;
      const ssize_t n = ::read(STDIN_FILENO, bytes.data(), bytes.size());
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n <= 0) {
        if (buffer_.empty()) return Input::kEnd;
        *line = std::exchange(buffer_, {});
        searched_ = 0;
        return Input::kLine;
      }
      buffer_.append(bytes.data(), static_cast<size_t>(n));
    }
  }

 private:
  std::string buffer_;
  size_t searched_ = 0;
};

class Conversation {
 public:
  Conversation(Session session, const ChatOptions& options, Prompter prompter, SamplerOptions sampler,
               Drafting drafting)
      : session_(std::move(session)),
        options_(options),
        prompter_(std::move(prompter)),
        sampler_(std::move(sampler)),
        drafting_(std::move(drafting)) {
    is_terminal_ = ::isatty(STDIN_FILENO) == 1;
    system_ = options.answer.system;
    sequence_ = session_.engine->cache().create_sequence();
  }

  Status run() {
    if (is_terminal_) {
      write_note(fmt::format("{}, {} tokens of context; /help lists the commands",
                             session_.model->config().name.empty() ? session_.path : session_.model->config().name,
                             session_.engine->options().context));
    }
    for (;;) {
      std::string text;
      const Input input = read_message(&text);
      if (input == Input::kEnd) break;
      if (input == Input::kInterrupted) {
        // At the prompt Ctrl-C drops the line; twice in a row it leaves.
        if (!is_terminal_ || std::exchange(interrupted_before_, true)) return Status::make(Code::kCancelled, "");
        write_note("\n(Ctrl-C again, Ctrl-D or /quit leaves)");
        continue;
      }
      interrupted_before_ = false;
      if (text.empty()) continue;
      if (text[0] == '/') {
        bool quit = false;
        DECANT_TRY_STATUS(command(text, &quit));
        if (quit) return {};
        continue;
      }
      DECANT_TRY_STATUS(ask(text));
    }
    if (is_terminal_) DECANT_TRY_STATUS(write_stdout("\n"));
    return {};
  }

 private:
  void prompt(const char* mark) const {
    if (is_terminal_) (void)write_stdout(mark);
  }

  Input read_message(std::string* text) {
    prompt("> ");
    std::string line;
    Input input = lines_.next(&line);
    if (input != Input::kLine) return input;
    if (line == "\"\"\"") {
      bool first = true;
      for (;;) {
        prompt("... ");
        input = lines_.next(&line);
        if (input == Input::kInterrupted) return input;
        if (input == Input::kEnd || line == "\"\"\"") return Input::kLine;
        *text += (std::exchange(first, false) ? "" : "\n") + line;
      }
    }
    while (!line.empty() && line.back() == '\\') {
      line.back() = '\n';
      *text += line;
      prompt("... ");
      input = lines_.next(&line);
      if (input == Input::kInterrupted) return input;
      if (input == Input::kEnd) line.clear();
    }
    *text += line;
    return Input::kLine;
  }

  Status command(const std::string& text, bool* quit) {
    const size_t space = text.find(' ');
    const std::string name = text.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : text.substr(space + 1);
    if (name == "/help" || name == "/?") return write_stdout(kHelp);
    if (name == "/quit" || name == "/exit" || name == "/bye") {
      *quit = true;
    } else if (name == "/clear" || name == "/new") {
      messages_.clear();
    } else if (name == "/system") {
      system_ = rest.empty() ? std::nullopt : std::optional(rest);
      messages_.clear();
    } else if (name == "/undo" || name == "/retry") {
      if (messages_.empty()) {
        write_note("there is nothing yet");
        return {};
      }
      messages_.pop_back();  // the answer
      const std::string question = messages_.back().content;
      messages_.pop_back();
      if (name == "/retry") {
        ++sample_;  // other noise under the same seed
        return ask(question);
      }
    } else {
      write_note(fmt::format(
          "{} is no command; /help lists them (begin a message with a space to send it as it stands)", name));
    }
    return {};
  }

  Result<std::vector<TokenId>> encode() const {
    std::vector<ChatMessage> messages;
    if (system_) messages.push_back({"system", *system_});
    messages.insert(messages.end(), messages_.begin(), messages_.end());
    return prompter_.encode(messages);
  }

  // The conversation as tokens; the oldest questions and answers are forgotten until there is room for an answer.
  Result<std::vector<TokenId>> fitting_prompt() {
    const auto context = static_cast<size_t>(session_.engine->options().context);
    size_t room = std::max<size_t>(1, context / 4);
    if (options_.answer.predict >= 0) room = std::min(room, static_cast<size_t>(options_.answer.predict));
    int forgotten = 0;
    for (;;) {
      DECANT_TRY(std::vector<TokenId> tokens, encode());
      if (tokens.size() + room <= context || messages_.size() < 3) {
        if (forgotten > 0)
          write_note(fmt::format("(the context is full: the oldest {} forgotten)",
                                 forgotten == 1 ? "question is" : fmt::format("{} questions are", forgotten)));
        return tokens;
      }
      messages_.erase(messages_.begin(), messages_.begin() + 2);
      ++forgotten;
    }
  }

  Status ask(const std::string& text) {
    messages_.push_back({"user", text});
    GenerateRequest request;
    Result<std::vector<TokenId>> prompt = fitting_prompt();
    if (!prompt.ok()) return refuse(std::move(prompt).status());
    request.prompt = std::move(prompt).value();
    request.sampler = sampler_;
    request.sample = sample_;
    // What the cache holds of this conversation stays there.
    KvCache& cache = session_.engine->cache();
    const auto known = static_cast<size_t>(cache.length(sequence_));
    size_t common = 0;
    while (common < std::min(known, request.prompt.size()) && cached_[common] == request.prompt[common]) ++common;
    DECANT_TRY_STATUS(cache.truncate(sequence_, static_cast<int>(common)));
    request.sequence = sequence_;
    drafting_.apply(options_.answer.draft, &request);

    char last = '\n';
    const auto write = [&](std::string_view piece) {
      last = piece.back();
      return write_stdout(piece);
    };
    Result<Answer> answered = answer(session_, request, options_.answer, options_.model.prefill_chunk, write);
    if (last != '\n' || is_terminal_) DECANT_TRY_STATUS(write_stdout("\n"));
    if (!answered.ok()) {
      DECANT_TRY_STATUS(cache.truncate(sequence_, 0));
      cached_.clear();
      // A broken pipe ends the program; what was wrong with this message does not.
      if (answered.status().code() == Code::kIo || answered.status().message().empty())
        return std::move(answered).status();
      return refuse(std::move(answered).status());
    }
    cached_ = request.prompt;
    const std::vector<TokenId>& drawn = answered->result.tokens;
    cached_.insert(cached_.end(), drawn.begin(), drawn.end());
    messages_.push_back({"assistant", answered->text});
    if (is_terminal_ && options_.model.verbose) write_note(fmt::format("[{}]", summary(request, answered->result)));
    if (answered->result.finish == FinishReason::kLength && options_.answer.predict < 0)
      write_note("(the context is full)");
    return {};
  }

  // Takes the last question back. On a terminal the conversation goes on.
  Status refuse(Status status) {
    messages_.pop_back();
    if (!is_terminal_) return status;
    write_error(status.message());
    return {};
  }

  Session session_;
  const ChatOptions& options_;
  Prompter prompter_;
  SamplerOptions sampler_;
  Drafting drafting_;
  LineReader lines_;
  std::optional<std::string> system_;
  std::vector<ChatMessage> messages_;  // pairs of a question and its answer
  std::vector<TokenId> cached_;        // tokens of the sequence; the cache holds the first of them
  SequenceId sequence_ = -1;
  uint32_t sample_ = 0;
  bool is_terminal_ = false;
  bool interrupted_before_ = false;
};

}  // namespace

Status chat(const ChatOptions& options) {
  DECANT_TRY(Session session, Session::open(options.model));
  DECANT_TRY(Prompter prompter, Prompter::open(options.answer, *session.tokenizer));
  if (prompter.chat == nullptr) {
    return Status::unsupported(
        "{}: the model has no chat template (a base model); complete text with `decant run --raw`", session.path);
  }
  DECANT_TRY(SamplerOptions sampler, sampler_options(options.answer, session));
  if (options.model.verbose && sampler.temperature > 0) write_note(fmt::format("seed {}", sampler.seed));
  DECANT_TRY(Drafting drafting, Drafting::open(options.answer.draft, session));
  const std::shared_ptr<DraftMethod> method = drafting.speculation.method;
  DECANT_TRY_STATUS(
      Conversation(std::move(session), options, std::move(prompter), std::move(sampler), std::move(drafting)).run());
  return options.answer.draft.save.empty() ? Status() : method->save(options.answer.draft.save);
}

}  // namespace decant::cli
