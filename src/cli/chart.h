// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Reports for people: tables as text, and charts and pages that need no other file.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace decant::cli {

struct Table {
  std::string title;
  std::vector<std::string> head;               // the first column is the rows' names
  std::vector<std::vector<std::string>> rows;  // as long as the head
  std::string note;
};
// Columns as wide as they need to be, the first one aligned left.
std::string text_of(const Table& table);

struct Bar {
  std::string label;
  double value = 0;                  // NaN: no bar
  std::array<double, 2> interval{};  // NaN: none
  std::string note;                  // behind the value
  bool is_reference = false;
};
struct BarChart {
  std::string title, subtitle;
  std::string axis;  // what the values are
  double reference = 1;
  std::vector<Bar> bars;
};
std::string svg_of(const BarChart& chart);

struct Page {
  std::string title;
  BarChart chart;
  std::vector<Table> tables;
  std::vector<std::pair<std::string, std::string>> settings;
};
std::string html_of(const Page& page);

}  // namespace decant::cli
