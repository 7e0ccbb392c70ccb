// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// What a draft method has learned, as a file. Little-endian, without padding: "dcntdrft", version (u32), 0 (u32),
// FNV-1a of all that follows (u64), the vocabulary's hash (u64), the method's name as length (u32) and bytes, the
// method's own data.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace decant {

// The whole file appears or none.
Status write_state(const std::string& path, std::string_view method, uint64_t vocabulary, std::string_view data);
// The method's own data. kNotFound: no such file; kCorrupt; kInvalidArgument: of another method or vocabulary.
Result<std::string> read_state(const std::string& path, std::string_view method, uint64_t vocabulary);

// Data of 32-bit words as bytes, and back; kCorrupt for bytes that are no whole words.
std::string bytes_of_words(std::span<const uint32_t> words);
Result<std::vector<uint32_t>> words_of_bytes(std::string_view bytes, const std::string& path);

}  // namespace decant
