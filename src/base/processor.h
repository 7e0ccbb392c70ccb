// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace decant {

// What the system calls the processor; "unknown" if it does not say.
std::string processor_name();

}  // namespace decant
