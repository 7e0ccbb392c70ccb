// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is a base file of log-probabilities. Whatever opens must hold what it announces: tokens of the vocabulary
// and rows that can be read and compared. A refusal must name the file.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "eval/divergence.h"

namespace {

constexpr int kVocab = 7;  // odd, so that rows are padded

void check(const decant::DivergenceBase& base) {
  DECANT_CHECK(base.tokens().size() == static_cast<size_t>(base.window()) * static_cast<size_t>(base.windows()));
  decant::DivergenceMeter meter;
  std::vector<float> row(kVocab);
  const std::vector<float> logits(kVocab, 0.5F);
  for (int64_t i = 0; i < base.rows(); ++i) {
    base.read(i, row);
    meter.add(row, logits, base.tokens()[static_cast<size_t>(i) % base.tokens().size()]);
  }
  DECANT_CHECK(meter.result().rows == base.rows());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = memfd_create("fuzz", 0);
  DECANT_CHECK(fd >= 0 && write(fd, data, size) == static_cast<ssize_t>(size));
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  const auto base = decant::DivergenceBase::open(path, kVocab);
  if (base.ok()) {
    check(*base);
  } else {
    DECANT_CHECK(base.status().message().starts_with(path + ": "));
  }
  close(fd);
  return 0;
}
