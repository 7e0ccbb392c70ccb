// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "base/size_text.h"

#include <fmt/core.h>

namespace decant {

std::string size_text(int64_t bytes) {
  const auto x = static_cast<double>(bytes);
  if (x >= 1e9) return fmt::format("{:.2f} GB", x / 1e9);
  if (x >= 1e6) return fmt::format("{:.1f} MB", x / 1e6);
  if (x >= 1e3) return fmt::format("{:.1f} kB", x / 1e3);
  return fmt::format("{} bytes", bytes);
}

}  // namespace decant
