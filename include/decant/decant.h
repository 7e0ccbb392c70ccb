// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Decant's public API, all of it. docs/api.md is a guide, examples/ has whole programs.
//
//   auto model = decant::LanguageModel::load("model.gguf");
//   if (!model.ok()) return fail(model.status());
//   auto session = decant::Session::create(*model);
//   if (!session.ok()) return fail(session.status());
//   decant::CompletionRequest request;
//   request.prompt = model->chat_prompt({{"user", "Why is the sky blue?"}}).value();
//   request.on_piece = [](const decant::Piece& piece) { return bool(std::cout << piece.text << std::flush); };
//   decant::Completion completion = session->complete(std::move(request));
//
// Threads: a LanguageModel may be used from any number of threads. A Session has one caller at a time. Sessions of one
// model share its device: their calls wait for each other.
//
// Exceptions: functions that return a Status, a Result or a Completion throw nothing; out of memory is kExhausted, what
// a callback throws is kInternal. Other functions throw std::bad_alloc at most.
#pragma once

#include "decant/model.h"      // IWYU pragma: export
#include "decant/sampling.h"   // IWYU pragma: export
#include "decant/session.h"    // IWYU pragma: export
#include "decant/status.h"     // IWYU pragma: export
#include "decant/structure.h"  // IWYU pragma: export
#include "decant/version.h"    // IWYU pragma: export
