// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// References of schemas to files: of one folder, and never over a network.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"

namespace decant {

// A resolver (SchemaOptions) for the schema with this text, as if it lay in `folder`: reads what relative references
// name, and addresses that begin as its own $id does up to the last slash. kNotFound for all other addresses and for
// files that are not there; kInvalidArgument for what leads out of the folder, through symbolic links too.
std::function<Result<std::string>(const std::string& address)> schema_folder(std::string folder, std::string schema);

}  // namespace decant
