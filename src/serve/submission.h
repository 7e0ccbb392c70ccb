// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// From a client's request to the engine.
#pragma once

#include "engine/scheduler.h"
#include "serve/json_fields.h"

namespace decant {
class EngineThread;
}

namespace decant::serve {

struct Metrics;

// What the client is told where the engine takes nothing: 429 where too many wait, 503 where the server stops, else as
// Problem::of.
Problem refusal(const Status& status);

// Hands a request to the engine and counts it as an open answer, which its on_done has to take back. If the engine
// refuses it: what the client is told (429 where too many wait, 503 where the server stops), and nothing is counted.
Problem submit(EngineThread& engine, Metrics& metrics, ScheduledRequest request, RequestId* id);

}  // namespace decant::serve
