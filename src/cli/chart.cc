// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/unicode.h"

namespace decant::cli {
namespace {

constexpr const char* kInk = "#1f2933";
constexpr const char* kFaint = "#6b7785";
constexpr const char* kGrid = "#e3e8ee";
constexpr const char* kBar = "#2f6fb7";
constexpr const char* kReferenceBar = "#a9b4c0";
constexpr const char* kFont = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";

// Calls use(character, code) for each character; what XML does not allow is U+FFFD.
template <typename Use>
void for_each_char(std::string_view text, const Use& use) {
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    const bool allowed =
        c.valid && (c.code >= 0x20 || c.code == '\n' || c.code == '\t') && c.code != 0xFFFE && c.code != 0xFFFF;
    use(allowed ? text.substr(0, c.size) : std::string_view("\xEF\xBF\xBD"), allowed ? c.code : 0xFFFD);
    text.remove_prefix(c.size);
  }
}

std::string escape(std::string_view text) {
  std::string out;
  for_each_char(text, [&](std::string_view c, uint32_t code) {
    switch (code) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  });
  return out;
}

size_t length(std::string_view text) {
  size_t n = 0;
  for_each_char(text, [&](std::string_view, uint32_t) { ++n; });
  return n;
}

// The beginning and the end of a text that is longer than `limit`.
std::string shortened(std::string_view text, size_t limit) {
  const size_t n = length(text);
  if (n <= limit) return std::string(text);
  std::string out;
  size_t i = 0;
  const size_t head = limit / 2, tail = limit - head - 1;
  for_each_char(text, [&](std::string_view c, uint32_t) {
    if (i < head || i >= n - tail) out += c;
    if (i++ == head) out += "\xE2\x80\xA6";
  });
  return out;
}

// In lines of at most 100 characters, where blanks allow it.
std::string wrapped(std::string_view text) {
  std::string out;
  size_t column = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const size_t width = length(text.substr(0, end));
    if (column > 0) {
      const bool fits = column + 1 + width <= 100;
      out += fits ? ' ' : '\n';
      column = fits ? column + 1 : 0;
    }
    out += text.substr(0, end);
    column += width;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out + "\n";
}

// A round distance of marks, so that there are at most eight.
double tick_of(double max) {
  const double least = std::max(max, 1e-6) / 8;
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double step : {1.0, 2.0, 2.5, 5.0}) {
    if (step * power >= least) return step * power;
  }
  return 10 * power;
}

}  // namespace

std::string text_of(const Table& table) {
  std::vector<size_t> widths;
  for (size_t c = 0; c < table.head.size(); ++c) {
    size_t width = length(table.head[c]);
    for (const auto& row : table.rows) width = std::max(width, length(row[c]));
    widths.push_back(width);
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t c = 0; c < cells.size(); ++c) {
      const std::string blanks(widths[c] - length(cells[c]), ' ');
      text += c == 0 ? cells[c] + blanks : "  " + blanks + cells[c];
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text + "\n";
  };
  std::string text = table.title.empty() ? "" : table.title + "\n";
  text += line(table.head);
  for (const auto& row : table.rows) text += line(row);
  if (!table.note.empty()) text += wrapped(table.note);
  return text;
}

std::string svg_of(const BarChart& chart) {
  constexpr int kRow = 34, kBarHeight = 18, kTop = 78, kBottom = 52, kPlot = 460, kRight = 210, kMargin = 24;
  constexpr size_t kMaxLabel = 44;
  size_t longest = 4;
  double max = chart.reference;
  for (const Bar& b : chart.bars) {
    longest = std::max(longest, std::min(length(b.label), kMaxLabel));
    for (const double x : {b.value, b.interval[1]}) max = std::isfinite(x) ? std::max(max, x) : max;
  }
  const double tick = tick_of(max), end = std::ceil(max / tick) * tick;
  const int left = kMargin + static_cast<int>(7.4 * static_cast<double>(longest)) + 12;
  const int text_width = 2 * kMargin + static_cast<int>(6.6 * static_cast<double>(length(chart.subtitle)));
  const int width = std::max(left + kPlot + kRight, text_width);
  const int bottom = kTop + kRow * static_cast<int>(chart.bars.size());
  const int height = bottom + kBottom;
  const auto x = [&](double value) { return left + kPlot * std::clamp(value / end, 0.0, 1.0); };

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" role=\"img\" "
      "font-family=\"{2}\" font-size=\"13\" fill=\"{3}\">\n<title>{4}</title>\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n",
      width, height, kFont, kInk, escape(chart.title));
  svg += fmt::format("<text x=\"{}\" y=\"32\" font-size=\"17\" font-weight=\"600\">{}</text>\n", kMargin,
                     escape(chart.title));
  svg += fmt::format("<text x=\"{}\" y=\"53\" font-size=\"12\" fill=\"{}\">{}</text>\n", kMargin, kFaint,
                     escape(chart.subtitle));
  for (int i = 0; i * tick <= end * (1 + 1e-9); ++i) {
    const double at = x(i * tick);
    svg += fmt::format("<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"{3}\"/>\n", at, kTop - 6,
                       bottom, kGrid);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\" fill=\"{}\">{:g}</text>\n",
                       at, bottom + 17, kFaint, i * tick);
  }
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"12\" fill=\"{}\">{}</text>\n",
                     left + kPlot / 2, bottom + 38, kFaint, escape(chart.axis));
  int top = kTop;
  std::string values;  // above bars and lines
  for (const Bar& b : chart.bars) {
    const int middle = top + kRow / 2;
    svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}<title>{}</title></text>\n", left - 10,
                       middle + 4, escape(shortened(b.label, kMaxLabel)), escape(b.label));
    double behind = left;
    if (std::isfinite(b.value)) {
      svg += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{:.1f}\" height=\"{}\" rx=\"2\" fill=\"{}\"/>\n", left,
                         middle - kBarHeight / 2, x(b.value) - left, kBarHeight, b.is_reference ? kReferenceBar : kBar);
      behind = x(b.value);
      if (std::isfinite(b.interval[0]) && std::isfinite(b.interval[1]) && b.interval[0] < b.interval[1]) {
        const double from = x(b.interval[0]), to = x(b.interval[1]);
        svg += fmt::format(
            "<path d=\"M{0:.1f} {2}V{3}M{0:.1f} {4}H{1:.1f}M{1:.1f} {2}V{3}\" stroke=\"{5}\" stroke-width=\"1.5\" "
            "fill=\"none\"/>\n",
            from, to, middle - 5, middle + 5, middle, kInk);
        behind = std::max(behind, to);
      }
    }
    const std::string value = std::isfinite(b.value) ? fmt::format("{:.2f}\xC3\x97", b.value) : "no figure";
    values += fmt::format(
        "<text x=\"{:.1f}\" y=\"{}\" paint-order=\"stroke\" stroke=\"#ffffff\" stroke-width=\"5\"><tspan "
        "font-weight=\"600\">{}</tspan><tspan dx=\"8\" font-size=\"11\" "
        "fill=\"{}\">{}</tspan></text>\n",
        behind + 8, middle + 4, value, kFaint, escape(b.note));
    top += kRow;
  }
  svg += fmt::format(
      "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"{3}\" stroke-dasharray=\"4 3\"/>\n",
      x(chart.reference), kTop - 6, bottom, kInk);
  return svg + values + "</svg>\n";
}

std::string html_of(const Page& page) {
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>\n"
      "body {{ margin: 32px auto; max-width: 1280px; padding: 0 20px; color: {}; background: #fff; font: 14px/1.5 {}; "
      "}}\n"
      "h1 {{ font-size: 22px; margin: 0 0 20px; }}\nh2 {{ font-size: 15px; margin: 34px 0 8px; }}\n"
      "figure {{ margin: 0 0 8px; overflow-x: auto; }}\nsvg {{ max-width: 100%; height: auto; }}\n"
      ".wide {{ overflow-x: auto; }}\ntable {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}\n"
      "th, td {{ padding: 5px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid {}; }}\n"
      "th {{ font-weight: 600; font-size: 12px; color: {}; }}\n"
      "th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}\n"
      "tbody tr:hover {{ background: #f6f8fa; }}\np {{ color: {}; max-width: 80ch; font-size: 13px; }}\n"
      "dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 3px 20px; margin: 0; }}\n"
      "dt {{ color: {}; }}\ndd {{ margin: 0; overflow-wrap: anywhere; }}\n</style>\n</head>\n<body>\n<h1>{}</h1>\n",
      escape(page.title), kInk, kFont, kGrid, kFaint, kFaint, kFaint, escape(page.title));
  html += "<figure>\n" + svg_of(page.chart) + "</figure>\n";
  for (const Table& table : page.tables) {
    html += fmt::format("<h2>{}</h2>\n<div class=\"wide\"><table>\n<thead><tr>", escape(table.title));
    for (const std::string& cell : table.head) html += "<th>" + escape(cell) + "</th>";
    html += "</tr></thead>\n<tbody>\n";
    for (const auto& row : table.rows) {
      html += "<tr>";
      for (const std::string& cell : row) html += "<td>" + escape(cell) + "</td>";
      html += "</tr>\n";
    }
    html += "</tbody></table></div>\n";
    if (!table.note.empty()) html += "<p>" + escape(table.note) + "</p>\n";
  }
  html += "<h2>Settings</h2>\n<dl>\n";
  for (const auto& [name, value] : page.settings) {
    html += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value));
  }
  return html + "</dl>\n</body>\n</html>\n";
}

}  // namespace decant::cli
