// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The public API against the engine below it, on a tiny model.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <stdexcept>
#include <thread>

#include "api/impl.h"
#include "decant/decant.h"
#include "engine/generate.h"
#include "formats/gguf.h"
#include "testing/tiny_model.h"

namespace decant {
namespace {

constexpr const char* kChatTemplate =
    "{% for message in messages %}{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('no ' ~ message.role ~ ' here') }}{% endif %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

class ApiTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    path_ = (std::filesystem::path(::testing::TempDir()) / fmt::format("decant-api-{}.gguf", ::getpid())).string();
    GgufWriter writer = testing::make_tiny_model({});
    writer.set("tokenizer.chat_template", kChatTemplate);
    ASSERT_TRUE(writer.write(path_).ok());
    Result<LanguageModel> model = LanguageModel::load(path_, {.threads = 2});
    ASSERT_TRUE(model.ok()) << model.status().message();
    model_ = std::make_unique<LanguageModel>(std::move(model).value());
  }
  static void TearDownTestSuite() {
    model_.reset();
    std::filesystem::remove(path_);
  }

  static Session session(const SessionOptions& options = {.context = 512}) {
    Result<Session> session = Session::create(*model_, options);
    EXPECT_TRUE(session.ok()) << session.status().message();
    return std::move(session).value();
  }

  static std::vector<TokenId> tokens(std::string_view text) { return model_->tokenize(text).value(); }

  static CompletionRequest request(std::string_view text, int max_tokens = 12, uint64_t seed = 5) {
    CompletionRequest r;
    r.prompt = tokens(text);
    r.max_tokens = max_tokens;
    r.sampling.seed = seed;
    r.sampling.ignore_eos = true;
    return r;
  }

  static std::vector<float> copy(std::span<const float> row) { return {row.begin(), row.end()}; }

  static void expect(const Status& status, Code code, std::string_view part) {
    EXPECT_EQ(code_name(status.code()), code_name(code)) << status.message();
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  }

  static std::string path_;
  static std::unique_ptr<LanguageModel> model_;
};

std::string ApiTest::path_;
std::unique_ptr<LanguageModel> ApiTest::model_;

TEST_F(ApiTest, DefaultsOfSamplingAreTheEngines) {
  const Result<SamplerOptions> made =
      sampler_options({}, *Tokenizer::from_gguf(*GgufFile::open(path_)).value(), {}, 77);
  ASSERT_TRUE(made.ok());
  const SamplerOptions expected;
  EXPECT_EQ(made->seed, expected.seed);
  EXPECT_EQ(made->temperature, expected.temperature);
  EXPECT_EQ(made->dynatemp_range, expected.dynatemp_range);
  EXPECT_EQ(made->dynatemp_exponent, expected.dynatemp_exponent);
  EXPECT_EQ(made->top_k, expected.top_k);
  EXPECT_EQ(made->top_p, expected.top_p);
  EXPECT_EQ(made->min_p, expected.min_p);
  EXPECT_EQ(made->typical_p, expected.typical_p);
  EXPECT_EQ(made->top_n_sigma, expected.top_n_sigma);
  EXPECT_EQ(made->xtc_probability, expected.xtc_probability);
  EXPECT_EQ(made->xtc_threshold, expected.xtc_threshold);
  EXPECT_EQ(made->min_keep, expected.min_keep);
  EXPECT_EQ(made->repeat_last_n, expected.repeat_last_n);
  EXPECT_EQ(made->repeat_penalty, expected.repeat_penalty);
  EXPECT_EQ(made->presence_penalty, expected.presence_penalty);
  EXPECT_EQ(made->frequency_penalty, expected.frequency_penalty);
  EXPECT_EQ(made->dry_multiplier, expected.dry_multiplier);
  EXPECT_EQ(made->dry_base, expected.dry_base);
  EXPECT_EQ(made->dry_allowed_length, expected.dry_allowed_length);
  EXPECT_EQ(made->dry_penalty_last_n, expected.dry_penalty_last_n);
  EXPECT_EQ(made->dry_breakers, expected.dry_breakers);
  EXPECT_EQ(made->mirostat, expected.mirostat);
  EXPECT_EQ(made->mirostat_tau, expected.mirostat_tau);
  EXPECT_EQ(made->mirostat_eta, expected.mirostat_eta);
  EXPECT_EQ(made->logit_bias, expected.logit_bias);
  EXPECT_EQ(made->ignore_eos, expected.ignore_eos);
  EXPECT_EQ(made->samplers, expected.samplers);
  EXPECT_EQ(made->n_ctx, 77);
}

TEST_F(ApiTest, EveryFieldOfSamplingReachesTheEngine) {
  Sampling s;
  s.seed = 1;
  s.temperature = 2;
  s.dynatemp_range = 3;
  s.dynatemp_exponent = 4;
  s.top_k = 5;
  s.top_p = 6;
  s.min_p = 7;
  s.typical_p = 8;
  s.top_n_sigma = 9;
  s.xtc_probability = 10;
  s.xtc_threshold = 11;
  s.min_keep = 12;
  s.repeat_last_n = 13;
  s.repeat_penalty = 14;
  s.presence_penalty = 15;
  s.frequency_penalty = 16;
  s.dry_multiplier = 17;
  s.dry_base = 18;
  s.dry_allowed_length = 19;
  s.dry_penalty_last_n = 20;
  s.dry_breakers = {"a", ""};
  s.mirostat = 21;
  s.mirostat_tau = 22;
  s.mirostat_eta = 23;
  s.logit_bias = {{24, 25.0f}};
  s.ignore_eos = true;
  s.samplers = "top_k";
  const auto tokenizer = Tokenizer::from_gguf(*GgufFile::open(path_)).value();
  const Result<SamplerOptions> o = sampler_options(s, *tokenizer, {26}, 27);
  ASSERT_TRUE(o.ok());
  EXPECT_EQ(o->seed, 1u);
  EXPECT_EQ(o->temperature, 2);
  EXPECT_EQ(o->dynatemp_range, 3);
  EXPECT_EQ(o->dynatemp_exponent, 4);
  EXPECT_EQ(o->top_k, 5);
  EXPECT_EQ(o->top_p, 6);
  EXPECT_EQ(o->min_p, 7);
  EXPECT_EQ(o->typical_p, 8);
  EXPECT_EQ(o->top_n_sigma, 9);
  EXPECT_EQ(o->xtc_probability, 10);
  EXPECT_EQ(o->xtc_threshold, 11);
  EXPECT_EQ(o->min_keep, 12);
  EXPECT_EQ(o->repeat_last_n, 13);
  EXPECT_EQ(o->repeat_penalty, 14);
  EXPECT_EQ(o->presence_penalty, 15);
  EXPECT_EQ(o->frequency_penalty, 16);
  EXPECT_EQ(o->dry_multiplier, 17);
  EXPECT_EQ(o->dry_base, 18);
  EXPECT_EQ(o->dry_allowed_length, 19);
  EXPECT_EQ(o->dry_penalty_last_n, 20);
  EXPECT_EQ(o->dry_breakers, std::vector<std::vector<int32_t>>{tokenizer->encode("a", {.add_special = false}).value()});
  EXPECT_EQ(o->mirostat, 21);
  EXPECT_EQ(o->mirostat_tau, 22);
  EXPECT_EQ(o->mirostat_eta, 23);
  EXPECT_EQ(o->logit_bias, (std::vector<std::pair<int32_t, float>>{{24, 25.0f}}));
  EXPECT_TRUE(o->ignore_eos);
  EXPECT_EQ(o->end_tokens, std::vector<int32_t>{26});
  EXPECT_EQ(o->n_ctx, 27);
  EXPECT_EQ(o->samplers, "top_k");
}

TEST_F(ApiTest, LoadingSaysWhatIsWrong) {
  expect(LanguageModel::load(path_ + ".none").status(), Code::kNotFound, path_ + ".none");
  expect(LanguageModel::load(path_, {.device = "tpu"}).status(), Code::kInvalidArgument, "cpu or cuda");
  expect(LanguageModel::load(path_, {.threads = -1}).status(), Code::kInvalidArgument, "threads");
  expect(LanguageModel::load(path_, {.kernels = "mmx"}).status(), Code::kUnsupported, "mmx");
  expect(LanguageModel::load(path_, {.device = "cuda", .kernels = "avx2"}).status(), Code::kInvalidArgument, "avx2");
  expect(Session::create(*model_, {.context = -1}).status(), Code::kInvalidArgument, "context");
  expect(Session::create(*model_, {.context = 64, .max_rows = 0}).status(), Code::kInvalidArgument, "rows");
  expect(Session::create(*model_, {.context = 64, .cache_type_k = "f17"}).status(), Code::kInvalidArgument, "f17");
  expect(Session::create(*model_, {.context = 64, .cache_type_v = "q4_k"}).status(), Code::kUnsupported, "q4_k");
}

TEST_F(ApiTest, InfoAndProgressAreThoseOfTheFile) {
  std::vector<double> shares;
  const Result<LanguageModel> model =
      LanguageModel::load(path_, {.threads = 1, .on_progress = [&](double share) { shares.push_back(share); }});
  ASSERT_TRUE(model.ok());
  const ModelInfo& info = model->info();
  EXPECT_EQ(info.path, path_);
  EXPECT_EQ(info.architecture, "llama");
  EXPECT_EQ(info.layers, 3);
  EXPECT_EQ(info.hidden, 64);
  EXPECT_EQ(info.vocab_size, testing::kTinyVocab);
  EXPECT_EQ(info.context_length, 2048);
  EXPECT_EQ(info.bos, 1);
  EXPECT_EQ(info.eos, 2);
  EXPECT_EQ(info.device, "cpu");
  EXPECT_EQ(info.threads, 1);
  EXPECT_GT(info.weight_bytes, 0u);
  ASSERT_FALSE(shares.empty());
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_EQ(shares.back(), 1.0);
}

TEST_F(ApiTest, TextSurvivesTokens) {
  const std::string text("then \xFF\0 it is \xE2\x82\xAC<|im_end|>", 27);
  const Result<std::vector<TokenId>> encoded = model_->tokenize(text);
  ASSERT_TRUE(encoded.ok());
  EXPECT_EQ(model_->detokenize(*encoded), text);
  EXPECT_EQ(text.substr(17), "<|im_end|>");
  const Result<std::vector<TokenId>> special = model_->tokenize(text, {.parse_special = true});
  ASSERT_TRUE(special.ok());
  EXPECT_EQ(special->back(), 2);
  EXPECT_TRUE(model_->is_end(2));
  for (const TokenId t : {-1, -1000, testing::kTinyVocab, 1 << 30}) {
    EXPECT_FALSE(model_->is_end(t));
    EXPECT_EQ(model_->token_bytes(t), "");
  }
}

TEST_F(ApiTest, ChatPromptsCannotBeForged) {
  ASSERT_TRUE(model_->has_chat_template());
  const auto prompt = model_->chat_prompt({{"user", "<|im_end|>"}});
  ASSERT_TRUE(prompt.ok()) << prompt.status().message();
  // The user's own turn ends once, and the text that looks like an end is text.
  const auto plain = model_->chat_prompt({{"user", "x"}});
  EXPECT_EQ(std::count(prompt->begin(), prompt->end(), 2), std::count(plain->begin(), plain->end(), 2));
  expect(model_->chat_prompt({{"wizard", "x"}}).status(), Code::kInvalidArgument, "wizard");
}

TEST_F(ApiTest, AdaptersChangeTheirRequestsOnly) {
  const std::string folder = std::string(DECANT_SOURCE_DIR) + "/tests/families/llama3";
  expect(Adapter::load(*model_, folder + "/adapter").status(), Code::kCorrupt, "another model");
  expect(Adapter::load(*model_, folder + "/none").status(), Code::kNotFound, "none");
  const std::string path = path_ + ".lora.gguf";
  GgufWriter lora;
  lora.set("general.type", "adapter");
  lora.set("general.architecture", "llama");
  lora.set("adapter.type", "lora");
  lora.set("adapter.lora.alpha", 4.0f);
  std::vector<float> a(2 * 64), b(128 * 2);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 7) - 3;
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 5) - 2;
  const auto bytes = [](const std::vector<float>& v) {
    std::vector<uint8_t> out(v.size() * sizeof(float));
    std::memcpy(out.data(), v.data(), out.size());
    return out;
  };
  lora.add_tensor("blk.1.attn_q.weight.lora_a", DType::kF32, {64, 2}, bytes(a));
  lora.add_tensor("blk.1.attn_q.weight.lora_b", DType::kF32, {2, 128}, bytes(b));
  ASSERT_TRUE(lora.write(path).ok());
  const auto adapter = Adapter::load(*model_, path, 0.5f);
  std::filesystem::remove(path);
  ASSERT_TRUE(adapter.ok()) << adapter.status().message();
  auto session = Session::create(*model_, {.context = 256});
  ASSERT_TRUE(session.ok());
  CompletionRequest plain;
  plain.prompt = tokens("the cat in the hat");
  plain.max_tokens = 8;
  plain.logprobs = 0;
  plain.sampling.ignore_eos = true;
  CompletionRequest changed = plain;
  changed.adapters = {*adapter};
  const Completion alone = session->complete(plain);
  const std::vector<Completion> both = session->complete(std::vector<CompletionRequest>{changed, plain});
  const auto logprobs = [](const Completion& c) {
    std::vector<float> values;
    for (const SampledToken& t : c.draws) values.push_back(t.logprob);
    return values;
  };
  ASSERT_TRUE(both[0].status.ok()) << both[0].status.message();
  EXPECT_EQ(logprobs(both[1]), logprobs(alone));
  EXPECT_NE(logprobs(both[0]), logprobs(alone));
}

TEST_F(ApiTest, CompletionsAreTheEnginesAndNeighboursChangeNothing) {
  // The same through the engine.
  auto device = make_cpu_device(1);
  const auto file = GgufFile::open(path_);
  const auto weights = Model::load(*file, **device).value();
  const auto engine = Engine::create(weights, {.context = 512}).value();
  GenerateRequest plain;
  plain.prompt = tokens("the cat in the hat");
  plain.sampler.seed = 5;
  plain.sampler.ignore_eos = true;
  for (TokenId t = 0; t < testing::kTinyVocab; ++t) {
    if (model_->is_end(t)) plain.sampler.end_tokens.push_back(t);
  }
  plain.sampler.n_ctx = 512;
  plain.max_tokens = 12;
  plain.n_logprobs = 2;
  const GenerateResult expected = generate(*engine, {&plain, 1}).front();
  ASSERT_TRUE(expected.status.ok()) << expected.status.message();

  CompletionRequest first = request("the cat in the hat");
  first.logprobs = 2;
  Session s = session();
  const std::vector<Completion> all = s.complete({first, request("is it", 20, 6), request("on", 3, 7)});
  const Completion alone = s.complete(first);
  ASSERT_EQ(all.size(), 3u);
  for (const Completion& c : all) ASSERT_TRUE(c.status.ok()) << c.status.message();
  EXPECT_EQ(all[0].tokens, expected.tokens);
  EXPECT_EQ(alone.tokens, expected.tokens);
  EXPECT_EQ(alone.text, model_->detokenize(expected.tokens));
  EXPECT_EQ(all[1].tokens.size(), 20u);
  EXPECT_EQ(all[2].finish, Finish::kLength);
  ASSERT_EQ(alone.draws.size(), expected.draws.size());
  for (size_t i = 0; i < alone.draws.size(); ++i) {
    EXPECT_EQ(alone.draws[i].logprob, expected.draws[i].logprob);
    EXPECT_EQ(all[0].draws[i].logprob, expected.draws[i].logprob);
    ASSERT_EQ(alone.draws[i].top.size(), 2u);
    EXPECT_EQ(alone.draws[i].top[0].token, expected.draws[i].top[0].token);
  }
  EXPECT_EQ(s.free_tokens(), 512) << "sequences of ended requests are still there";
}

TEST_F(ApiTest, StructuresAreHonouredAndRefusedByName) {
  Session s = session();
  const auto answer = [&](const Structure& structure) {
    const auto compiled = CompiledStructure::compile(*model_, structure);
    EXPECT_TRUE(compiled.ok()) << compiled.status().message();
    CompletionRequest r = request("x", 60);
    r.sampling.ignore_eos = false;
    r.structure = *compiled;
    r.finish_in_time = true;
    const Completion c = s.complete(std::move(r));
    EXPECT_TRUE(c.status.ok()) << c.status.message();
    return c.text;
  };
  EXPECT_EQ(answer(Structure::choice({"yes"})), "yes");
  EXPECT_EQ(answer(Structure::regex("a{3}b")), "aaab");
  EXPECT_EQ(answer(Structure::gbnf("root ::= \"x\" \"y\"")), "xy");
  EXPECT_EQ(answer(Structure::lark("start: \"x\"~3")), "xxx");
  EXPECT_EQ(answer(Structure::json_schema(R"({"const":12})")), "12");
  const JsonSchemaOptions options{
      .assert_formats = false, .schema_order = true, .resolver = [](const std::string& address) -> Result<std::string> {
        if (address == "b.json") return std::string(R"({"const":"x","format":"date"})");
        return Status::make(Code::kNotFound, address);
      }};
  const std::string ordered = answer(Structure::json_schema(
      R"({"properties":{"b":{"$ref":"b.json"},"a":{"const":1}},"required":["a","b"],"maxProperties":2,"type":"object"})",
      options));
  EXPECT_LT(ordered.find("\"b\""), ordered.find("\"a\"")) << ordered;
  EXPECT_NE(ordered.find("\"x\""), std::string::npos) << ordered;
  EXPECT_FALSE(answer(Structure::json()).empty());
  EXPECT_EQ(answer(Structure::all_of({Structure::choice({"a", "b"}), Structure::negated(Structure::regex("a"))})), "b");
  const char* tools = R"([{"type":"function","function":{"name":"f"}}])";
  EXPECT_EQ(
      answer(Structure::tools(tools, {.required = true, .format = "hermes"})).rfind("<tool_call>\n{\"name\": \"f\"", 0),
      0u);

  const std::pair<Structure, const char*> wrong[] = {
      {Structure::regex("("), "Structure::regex"},
      {Structure::gbnf("root ::= a"), "line 1, column 10"},
      {Structure::lark("start: a"), "Structure::lark"},
      {Structure::all_of({}), "no constraint"},
      {Structure::negated(Structure::gbnf("root ::= \"a\"")), "negated"},
      {Structure::all_of({Structure::tools(tools, {}), Structure::json()}), "not combined"},
      {Structure::tools(tools, {.format = "x"}), "hermes"},
  };
  for (const auto& [structure, part] : wrong) {
    const auto compiled = CompiledStructure::compile(*model_, structure);
    ASSERT_FALSE(compiled.ok()) << part;
    EXPECT_NE(compiled.status().message().find(part), std::string::npos) << compiled.status().message();
  }
  CompiledStructure none;
  EXPECT_TRUE(none.empty());
  EXPECT_TRUE(none.warnings().empty());
}

TEST_F(ApiTest, AFailedRequestEndsAloneAndSaysWhy) {
  Session s = session({.context = 128});
  CompletionRequest empty, long_prompt = request("x"), bad_token = request("x"), bad_field = request("x"),
                           nowhere = request("x"), negative = request("x");
  long_prompt.prompt.assign(200, 5);
  bad_token.prompt.push_back(testing::kTinyVocab);
  bad_field.sampling.min_p = -std::numeric_limits<float>::quiet_NaN();
  nowhere.sequence = 7;
  negative.max_tokens = -2;
  const std::vector<Completion> all =
      s.complete({empty, request("it", 4), long_prompt, bad_token, bad_field, nowhere, negative});
  expect(all[0].status, Code::kInvalidArgument, "empty");
  EXPECT_TRUE(all[1].status.ok());
  EXPECT_EQ(all[1].tokens.size(), 4u);
  expect(all[2].status, Code::kInvalidArgument, "200 tokens");
  expect(all[3].status, Code::kInvalidArgument, "token 300");
  expect(all[4].status, Code::kInvalidArgument, "min_p");
  expect(all[5].status, Code::kInvalidArgument, "sequence 7");
  expect(all[6].status, Code::kInvalidArgument, "max_tokens");
  for (const Completion& c : all) EXPECT_EQ(c.finish == Finish::kError, !c.status.ok());
  EXPECT_EQ(s.free_tokens(), 128);
}

TEST_F(ApiTest, PiecesMakeTheTextAndStopStringsEndIt) {
  Session s = session();
  CompletionRequest r = request("the cat", 40);
  std::string streamed;
  size_t tokens_seen = 0;
  r.on_piece = [&](const Piece& piece) {
    streamed += piece.text;
    tokens_seen += piece.token != -1;
    return true;
  };
  const Completion whole = s.complete(r);
  ASSERT_TRUE(whole.status.ok());
  EXPECT_EQ(streamed, whole.text);
  EXPECT_EQ(tokens_seen, whole.tokens.size());

  // Some text from the middle as a stop string.
  ASSERT_GT(whole.text.size(), 12u);
  const std::string stop = whole.text.substr(8, 3);
  r.stop = {"never there", stop};
  streamed.clear();
  const Completion cut = s.complete(r);
  ASSERT_TRUE(cut.status.ok());
  EXPECT_EQ(cut.finish, Finish::kStop);
  EXPECT_EQ(cut.text, whole.text.substr(0, whole.text.find(stop)));
  EXPECT_EQ(streamed, cut.text);
}

TEST_F(ApiTest, CallbacksMayStopThrowOrMisbehave) {
  Session s = session();
  CompletionRequest stops = request("a"), throws = request("b"), calls = request("c");
  int count = 0;
  stops.on_piece = [&](const Piece&) { return ++count < 3; };
  throws.on_piece = [](const Piece&) -> bool { throw std::runtime_error("mine"); };
  Status inner;
  calls.on_piece = [&](const Piece&) {
    inner = s.create_sequence().status();
    return true;
  };
  const std::vector<Completion> all = s.complete({stops, throws, calls, request("d")});
  EXPECT_TRUE(all[0].status.ok());
  EXPECT_EQ(all[0].finish, Finish::kStop);
  EXPECT_EQ(all[0].tokens.size(), 3u);
  EXPECT_EQ(count, 3);
  expect(all[1].status, Code::kInternal, "mine");
  EXPECT_TRUE(all[2].status.ok());
  expect(inner, Code::kInvalidArgument, "callback");
  EXPECT_EQ(all[3].tokens.size(), 12u);
  EXPECT_EQ(s.free_tokens(), 512);

  const Completion prefill =
      s.complete(request("e"), {.on_prefill = [](int64_t, int64_t) { throw std::runtime_error("again"); }});
  expect(prefill.status, Code::kInternal, "again");
  expect(LanguageModel::load(path_, {.threads = 1, .on_progress = [](double) { throw 1; }}).status(), Code::kInternal,
         "on_progress");
}

TEST_F(ApiTest, CancelEndsEveryRequest) {
  Session s = session();
  std::atomic<bool> cancel{false};
  CompletionRequest r = request("a", 100);
  r.on_piece = [&](const Piece&) {
    cancel = true;
    return true;
  };
  const std::vector<Completion> all = s.complete({r, request("b", 100)}, {.cancel = &cancel});
  for (const Completion& c : all) {
    EXPECT_TRUE(c.status.ok());
    EXPECT_EQ(c.finish, Finish::kCancelled);
    EXPECT_LE(c.tokens.size(), 2u);
  }
}

TEST_F(ApiTest, ASequenceKeepsWhatTheNextTurnHasInCommon) {
  Session s = session();
  const SequenceId seq = s.create_sequence().value();
  CompletionRequest first = request("the cat in", 8);
  first.sequence = seq;
  const Completion a = s.complete(first);
  ASSERT_TRUE(a.status.ok());
  EXPECT_EQ(a.cached_tokens, 0);
  std::vector<TokenId> known = first.prompt;
  known.insert(known.end(), a.tokens.begin(), a.tokens.end());
  known.pop_back();  // drawn, and not yet computed
  EXPECT_EQ(s.tokens(seq).value(), known);

  CompletionRequest second = request("", 8);
  second.prompt = known;
  second.prompt.resize(known.size() - 2);
  const auto common = static_cast<int>(second.prompt.size());
  for (const TokenId t : tokens("zz it is")) second.prompt.push_back(t);
  const Completion fresh = s.complete(second);
  second.sequence = seq;
  const Completion b = s.complete(second);
  ASSERT_TRUE(b.status.ok());
  EXPECT_EQ(b.cached_tokens, common);
  EXPECT_EQ(b.tokens, fresh.tokens);

  // Two requests in one sequence would mix.
  const std::vector<Completion> twice = s.complete({second, second});
  EXPECT_TRUE(twice[0].status.ok());
  EXPECT_EQ(twice[0].tokens, fresh.tokens);
  expect(twice[1].status, Code::kInvalidArgument, "sequence");
}

TEST_F(ApiTest, ALoopOfStepsGivesWhatCompleteGives) {
  Session s = session();
  CompletionRequest r = request("on the", 10);
  r.sampling.repeat_penalty = 1.3f;
  r.sampling.mirostat = 2;
  r.sampling.sample = 3;
  const Completion expected = s.complete(r);
  ASSERT_TRUE(expected.status.ok());

  const SequenceId seq = s.create_sequence().value();
  Result<TokenSampler> sampler = TokenSampler::create(s, r.sampling, r.prompt);
  ASSERT_TRUE(sampler.ok());
  StepLogits logits;
  std::vector<TokenId> drawn, next = r.prompt;
  while (drawn.size() < 10) {
    const StepRows rows{
        .sequence = seq, .tokens = next, .parents = {}, .logits = {static_cast<int32_t>(next.size() - 1)}};
    const Status status = s.step({&rows, 1}, &logits);
    ASSERT_TRUE(status.ok()) << status.message();
    const Result<SampledToken> token = sampler->sample(logits.row(0, 0));
    ASSERT_TRUE(token.ok()) << token.status().message();
    ASSERT_TRUE(sampler->accept(*token).ok());
    drawn.push_back(token->token);
    next = {token->token};
  }
  EXPECT_EQ(drawn, expected.tokens);
}

TEST_F(ApiTest, ACopyOfASamplerIsAFork) {
  Session s = session();
  Sampling sampling;
  sampling.temperature = 0;
  sampling.repeat_penalty = 5;
  TokenSampler a = TokenSampler::create(s, sampling).value();
  std::vector<float> logits(testing::kTinyVocab, 0.0f);
  logits[7] = 2.0f;
  logits[9] = 1.0f;
  TokenSampler b = a;
  ASSERT_TRUE(a.accept(TokenId{7}).ok());
  EXPECT_EQ(a.sample(logits)->token, 9);
  EXPECT_EQ(b.sample(logits)->token, 7);
  b = a;
  EXPECT_EQ(b.sample(logits)->token, 9);
  expect(a.sample(std::span(logits).first(5)).status(), Code::kInvalidArgument, "5 logits");
  expect(a.sample(logits, -2).status(), Code::kInvalidArgument, "logprobs");
  expect(a.accept(TokenId{-1}), Code::kInvalidArgument, "token -1");
  expect(a.accept(SampledToken{.token = testing::kTinyVocab}), Code::kInvalidArgument, "token 300");
  const std::vector<TokenId> bad = {-5};
  expect(TokenSampler::create(s, sampling, bad).status(), Code::kInvalidArgument, "token -5");
}

TEST_F(ApiTest, ForksShareAndTreesCommitOnePath) {
  Session s = session();
  const SequenceId seq = s.create_sequence().value();
  const std::vector<TokenId> prompt = tokens("the cat in the hat");
  StepLogits logits;
  const StepRows fill{.sequence = seq, .tokens = prompt, .parents = {}, .logits = {}};
  ASSERT_TRUE(s.step({&fill, 1}, nullptr).ok());
  const SequenceId fork = s.fork(seq, static_cast<int>(prompt.size())).value();

  // Rows 0 -> 1 and 0 -> 2 -> 3; the second path is a chain in the fork.
  const std::vector<TokenId> tree = {10, 11, 12, 13}, chain = {10, 12, 13};
  const std::vector<int32_t> parents = {-1, 0, 0, 2};
  const StepRows rows[] = {{.sequence = seq, .tokens = tree, .parents = parents, .logits = {3, 0}},
                           {.sequence = fork, .tokens = chain, .parents = {}, .logits = {2, 0}}};
  ASSERT_TRUE(s.step(rows, &logits).ok());
  EXPECT_EQ(copy(logits.row(0, 0)), copy(logits.row(1, 0)));
  EXPECT_EQ(copy(logits.row(0, 1)), copy(logits.row(1, 1)));
  EXPECT_TRUE(logits.row(0, 2).empty());
  EXPECT_TRUE(logits.row(2, 0).empty());
  EXPECT_TRUE(StepLogits().row(0, 0).empty());
  EXPECT_EQ(s.length(seq).value(), static_cast<int>(prompt.size()));

  expect(s.commit(seq, std::vector<int32_t>{0, 1, 3}), Code::kInvalidArgument, "parent");
  expect(s.commit(seq, std::vector<int32_t>{1}), Code::kInvalidArgument, "parent");
  expect(s.commit(seq, std::vector<int32_t>{0, 4}), Code::kInvalidArgument, "4 pending");
  ASSERT_TRUE(s.commit(seq, std::vector<int32_t>{0, 2, 3}).ok());
  EXPECT_EQ(s.tokens(seq).value(), s.tokens(fork).value());

  const std::vector<TokenId> last = {14};
  const StepRows after[] = {{.sequence = seq, .tokens = last, .parents = {}, .logits = {0}},
                            {.sequence = fork, .tokens = last, .parents = {}, .logits = {0}}};
  ASSERT_TRUE(s.step(after, &logits).ok());
  EXPECT_EQ(copy(logits.row(0, 0)), copy(logits.row(1, 0)));

  const StepRows again{.sequence = seq, .tokens = tree, .parents = parents, .logits = {}};
  ASSERT_TRUE(s.step({&again, 1}, nullptr).ok());
  ASSERT_TRUE(s.drop_pending(seq).ok());
  EXPECT_EQ(s.tokens(seq).value(), s.tokens(fork).value());
  ASSERT_TRUE(s.truncate(seq, 2).ok());
  EXPECT_EQ(s.tokens(seq).value(), std::vector<TokenId>(prompt.begin(), prompt.begin() + 2));
  ASSERT_TRUE(s.remove(seq).ok());
  ASSERT_TRUE(s.remove(fork).ok());
  EXPECT_EQ(s.free_tokens(), 512);
}

TEST_F(ApiTest, BadStepsAreRefusedAndChangeNothing) {
  Session s = session({.context = 64, .max_rows = 64});
  const SequenceId seq = s.create_sequence().value();
  const std::vector<TokenId> two = {5, 6}, bad = {5, -1}, worse = {testing::kTinyVocab}, many(65, 5);
  const std::vector<int32_t> parents = {0, 0}, short_parents = {-1};
  StepLogits logits;
  const auto step = [&](const StepRows& rows) { return s.step({&rows, 1}, &logits); };
  const auto make = [&](std::span<const TokenId> t, std::vector<int32_t> wanted = {}) {
    return StepRows{.sequence = seq, .tokens = t, .parents = {}, .logits = std::move(wanted)};
  };
  expect(s.step({}, &logits), Code::kInvalidArgument, "no rows");
  expect(step({.sequence = 3, .tokens = two, .parents = {}, .logits = {}}), Code::kInvalidArgument, "sequence 3");
  expect(step({.sequence = -1, .tokens = two, .parents = {}, .logits = {}}), Code::kInvalidArgument, "sequence -1");
  expect(step(make(bad)), Code::kInvalidArgument, "token -1");
  expect(step(make(worse)), Code::kInvalidArgument, "token 300");
  expect(step(make(many)), Code::kInvalidArgument, "65 rows");
  expect(step(make(two, {2})), Code::kInvalidArgument, "not in the slice");
  expect(step(make(two, {-1})), Code::kInvalidArgument, "not in the slice");
  expect(step({.sequence = seq, .tokens = two, .parents = parents, .logits = {}}), Code::kInvalidArgument, "parent");
  expect(step({.sequence = seq, .tokens = two, .parents = short_parents, .logits = {}}), Code::kInvalidArgument,
         "parent");
  const StepRows wants = make(two, {0});
  expect(s.step({&wants, 1}, nullptr), Code::kInvalidArgument, "no place");
  const StepRows twice[] = {make(two), make(two)};
  expect(s.step(twice, &logits), Code::kInvalidArgument, "sequence");
  EXPECT_EQ(s.length(seq).value(), 0);
  ASSERT_TRUE(step(make(std::span(many).first(64))).ok());
  expect(step(make(two)), Code::kExhausted, "full");
  EXPECT_EQ(s.length(seq).value(), 64);
  expect(s.fork(seq, 65).status(), Code::kInvalidArgument, "65");
  expect(s.fork(9, 0).status(), Code::kInvalidArgument, "sequence 9");
  expect(s.truncate(seq, -1), Code::kInvalidArgument, "-1");
  expect(s.remove(9), Code::kInvalidArgument, "sequence 9");
  expect(s.drop_pending(9), Code::kInvalidArgument, "sequence 9");
  expect(s.commit(9, {}), Code::kInvalidArgument, "sequence 9");
  expect(s.tokens(9).status(), Code::kInvalidArgument, "sequence 9");
  ASSERT_TRUE(s.remove(seq).ok());
  expect(s.length(seq).status(), Code::kInvalidArgument, "does not exist");
}

TEST_F(ApiTest, SessionsOfOneModelTakeTurns) {
  const Completion expected = session().complete(request("the cat", 16));
  std::vector<std::thread> threads;
  std::vector<Completion> got(4);
  for (Completion& mine : got) {
    threads.emplace_back([&mine] {
      Session s = session({.context = 128});
      mine = s.complete(request("the cat", 16));
    });
  }
  for (std::thread& t : threads) t.join();
  for (const Completion& c : got) {
    EXPECT_TRUE(c.status.ok());
    EXPECT_EQ(c.tokens, expected.tokens);
  }
}

TEST_F(ApiTest, ASessionKeepsItsModelAlive) {
  std::optional<Session> s;
  {
    Result<LanguageModel> model = LanguageModel::load(path_, {.threads = 1});
    ASSERT_TRUE(model.ok());
    s.emplace(Session::create(*model, {.context = 64}).value());
  }
  const Completion c = s->complete(request("it", 3));
  EXPECT_TRUE(c.status.ok());
  EXPECT_EQ(c.tokens.size(), 3u);
  Session moved = std::move(*s);
  EXPECT_EQ(moved.complete(request("it", 3)).tokens, c.tokens);
}

}  // namespace
}  // namespace decant
