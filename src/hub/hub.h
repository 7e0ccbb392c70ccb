// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Hub: fetches files of model repositories from a server that speaks the Hugging Face hub's protocol. The server is not
// trusted: sizes, checksums, paths and redirects are checked, and what is wrong fails with one message.
//
//   GET BASE/api/models/OWNER/NAME/revision/REVISION           the commit
//   GET BASE/api/models/OWNER/NAME/tree/COMMIT?recursive=true  files with sizes and checksums, in pages
//   GET BASE/OWNER/NAME/resolve/COMMIT/PATH                    a file, often by a redirect to another host
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "hub/http.h"
#include "hub/listing.h"
#include "hub/name.h"

namespace decant {

inline constexpr const char* kPublicHub = "https://huggingface.co";

struct HubOptions {
  std::string address = kPublicHub;
  std::string token;           // "": none; sent to the hub's own host and port only, never shown
  int connect_timeout_s = 10;  // at most timeout_s
  int timeout_s = 30;          // without a byte
  int retries = 4;             // of a request that failed without progress, waiting longer each time
  int connect_retries = 1;     // of an API request to a host that gives no connection; at most retries
  std::string user_agent = "decant";
};

// Fills in what the environment says: the address ($DECANT_HUB, else $HF_ENDPOINT, unless `address` is given) and the
// token ($HF_TOKEN, $HUGGING_FACE_HUB_TOKEN, else the file $HF_TOKEN_PATH, $HF_HOME/token or
// ~/.cache/huggingface/token). kInvalidArgument naming the variable.
Result<HubOptions> hub_options_from_environment(const std::string& address);

// What a caller hears while it waits; all may be empty.
struct HubEvents {
  std::function<void(int64_t done, int64_t total)> progress;  // bytes of the file
  std::function<void(const std::string& line)> note;          // "trying again in 2 s (...)"
  std::function<bool()> go_on;                                // false: stop with kCancelled
};

struct HubListing {
  std::string commit;
  std::vector<HubFile> files;
};

class Hub {
 public:
  static Result<Hub> open(const HubOptions& options);

  const std::string& address() const { return options_.address; }

  // All files at the revision. kNotFound: no such repository or revision, or no right to see it; kCorrupt: an answer
  // that is wrong; kIo: no answer.
  Result<HubListing> list(const HubName& name, const HubEvents& events);

  // Fetches a file to `target`, which appears whole and with the right size and checksum or not at all; false when a
  // file of that size is there already. Goes on from what an earlier fetch left; waits for another process that fetches
  // it. On a fault of the network, and when stopped, the bytes so far are kept in TARGET.part; the message says so.
  Result<bool> fetch(const HubName& name, const std::string& commit, const HubFile& file, const std::string& target,
                     const HubEvents& events);

 private:
  Hub(HubOptions options, Http http) : options_(std::move(options)), http_(std::move(http)) {}
  Result<std::string> get_text(const HubName& name, const std::string& url, const char* what, const HubEvents& events,
                               std::string* next_query);

  HubOptions options_;
  Http http_;
  friend class HubFetch;
};

}  // namespace decant
