// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace decant {

// A size for people: "98.4 MB".
std::string size_text(int64_t bytes);

}  // namespace decant
