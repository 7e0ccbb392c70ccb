// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The registry's entries, one of each file.
#pragma once

#include "speculate/registry.h"

namespace decant {

DrafterInfo aded_drafter();
DrafterInfo datastore_drafter();
DrafterInfo lookahead_drafter();
DrafterInfo lookup_drafter();
DrafterInfo rasd_drafter();
DrafterInfo sam_drafter();
DrafterInfo recycling_drafter();
DrafterInfo model_drafter();

VerifierInfo coupled_verifier();
VerifierInfo match_verifier();
VerifierInfo chain_verifier();
VerifierInfo rrs_verifier();
VerifierInfo rsd_verifier();
VerifierInfo kseq_verifier();
VerifierInfo transport_verifier();
VerifierInfo typical_verifier();

}  // namespace decant
