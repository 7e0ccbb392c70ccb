// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Prompts to try methods on when nobody gives others: something of everything that people ask, in no benchmark.
#pragma once

namespace decant {

inline constexpr const char* kCalibrationPrompts[] = {
    "Explain in simple words how a refrigerator works.",
    "Write a short letter to a neighbour about a lost cat.",
    "Continue this program and explain it:\n\ndef read_lines(path):\n    \"\"\"Returns the lines of a text "
    "file.\"\"\"\n",
    "Summarize in two sentences: The town of Hallbrook rebuilt its old mill last year. Volunteers cleared the river "
    "bed "
    "in spring, carpenters replaced the wheel in summer, and in autumn a baker from the next village ground the first "
    "sack of flour there in ninety years. The town council, which had first refused to pay for the work, now plans to "
    "open the mill to visitors on weekends and to teach school classes how bread was made.",
    "A train leaves at 9:40 and arrives at 13:05. How long does the journey take? Show the steps.",
    "Translate into French: The children are playing in the garden, and their grandmother is reading the newspaper.",
    "List five things to check before a long car journey, each with a reason.",
    "Answer from the text: Lake Orvo is 12 km long and 3 km wide. It was formed after the last ice age. Its water "
    "comes "
    "from two rivers, the Ten and the Small Ten. How was the lake formed, and where does its water come from?",
    "What are the main differences between a lake and a river?",
    "Who was Marie Curie?",
    "Rewrite this sentence in a formal style: Hey, can you send me that report by Friday?",
    "Make a table of three fruits with their colour and taste.",
};

}  // namespace decant
