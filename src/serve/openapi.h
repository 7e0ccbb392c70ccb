// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "serve/json_fields.h"

namespace decant::serve {

// What the server takes and gives, as an OpenAPI 3.1 document.
Json openapi_document(std::string_view version);

}  // namespace decant::serve
